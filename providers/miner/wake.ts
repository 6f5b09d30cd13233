/**
 * Waiting until something may have changed: the system tells of the watched file, a poll comes by, or somebody says so.
 * Being woken says nothing about what changed, and one waking may stand for many.
 */
import { watch, type FSWatcher } from 'node:fs'
import path from 'node:path'
import { isMissing } from './file-errors.ts'

export class Wake {
  readonly #file: string
  #watchable: boolean
  #watcher: FSWatcher | undefined
  #woken = false
  #resolve: (() => void) | undefined

  /** `watchable` false leaves the system out of it. */
  constructor(file: string, watchable: boolean) {
    this.#file = file
    this.#watchable = watchable
  }

  /** Ends the sleep, or else the next one before it begins. */
  wake(): void {
    const resolve = this.#resolve
    this.#resolve = undefined
    this.#woken = resolve === undefined
    resolve?.()
  }

  /** One sleeper at a time. */
  sleep(): Promise<void> {
    if (this.#woken) {
      this.#woken = false
      return Promise.resolve()
    }
    return new Promise(resolve => { this.#resolve = resolve })
  }

  /**
   * Has the system tell of the file, if it does not yet. Its directory is watched, so that a rotation and the first
   * appearance are seen. Call it now and then: the directory may come later.
   */
  watch(): void {
    if (!this.#watchable || this.#watcher !== undefined) return
    const name = path.basename(this.#file)
    try {
      const watcher = watch(path.dirname(this.#file), { persistent: false }, (_event, changed) => {
        if (changed === null || changed === name) this.wake()
      })
      watcher.on('error', () => {
        watcher.close()
        if (this.#watcher === watcher) this.#watcher = undefined
      })
      this.#watcher = watcher
    } catch (thrown) {
      // A system out of watches: polling does the same, only later. A missing directory may still appear.
      if (!isMissing(thrown)) this.#watchable = false
    }
  }

  /** Stops watching. */
  close(): void {
    this.#watchable = false
    this.#watcher?.close()
    this.#watcher = undefined
  }
}
