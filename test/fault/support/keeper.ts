/**
 * Keeps one process up as a supervisor does: started again at once when it ends, unless it is held down. It owns the life that it started last.
 *
 *   held → starting → up → gone → starting …
 */
import { setTimeout as delay } from 'node:timers/promises'

export interface Life {
  readonly pid: number
  /** Resolves when it serves, and with nothing when it ends before. */
  readonly ready: Promise<unknown>
  /** Resolves with how it ended. */
  readonly gone: Promise<string>
}

/** Between two lives, in ms: what fails at once must not take the machine. */
const PAUSE_MS = 100

export class Keeper {
  readonly name: string
  readonly #spawn: () => Promise<Life>
  readonly #onEnded: (how: string) => void
  #life: Life | undefined
  #isUp = false
  /** Its end was asked for. */
  #killed = false
  #isHeld = true
  #isPaused = false
  #loop: Promise<void> = Promise.resolve()

  /** `onEnded` is told of each end that nobody asked for here. */
  constructor(name: string, spawn: () => Promise<Life>, onEnded: (how: string) => void) {
    this.name = name
    this.#spawn = spawn
    this.#onEnded = onEnded
  }

  /** Of the process that runs, ready or not. */
  get pid(): number | undefined {
    return this.#life?.pid
  }

  get isUp(): boolean {
    return this.#isUp
  }

  get isPaused(): boolean {
    return this.#isPaused
  }

  /** Keeps it up from now on. */
  release(): void {
    if (!this.#isHeld) return
    this.#isHeld = false
    this.#loop = this.#loop.then(() => this.#keepUp())
  }

  /** SIGKILL, or what is asked for; it is started again. Resolves with whether there was one, when that one is gone. */
  async end(signal: NodeJS.Signals = 'SIGKILL'): Promise<boolean> {
    const life = this.#life
    if (life === undefined) return false
    this.#killed = true
    // One that is stopped hears of nothing but SIGKILL.
    if (signal !== 'SIGKILL') this.resume()
    if (!signalTo(life.pid, signal)) return false
    await life.gone
    return true
  }

  /** Ends it and leaves it down until it is released. Resolves with whether there was one. */
  async hold(signal: NodeJS.Signals = 'SIGKILL'): Promise<boolean> {
    this.#isHeld = true
    const ended = await this.end(signal)
    await this.#loop
    return ended
  }

  pause(): boolean {
    if (this.#life === undefined || this.#isPaused || !this.#isUp) return false
    return this.#isPaused = signalTo(this.#life.pid, 'SIGSTOP')
  }

  resume(): void {
    this.#isPaused = false
    if (this.#life !== undefined) signalTo(this.#life.pid, 'SIGCONT')
  }

  async #keepUp(): Promise<void> {
    while (!this.#isHeld) {
      const life = await this.#spawn().catch((error: unknown) => {
        this.#onEnded(String(error))
        return undefined
      })
      if (life !== undefined) await this.#live(life)
      if (!this.#isHeld) await delay(PAUSE_MS)
    }
  }

  async #live(life: Life): Promise<void> {
    this.#life = life
    this.#killed = this.#isPaused = false
    void life.ready.then(ready => { if (ready !== undefined && this.#life === life) this.#isUp = true }, () => undefined)
    // Held down while it was being started.
    if (this.#isHeld) signalTo(life.pid, 'SIGKILL')
    const how = await life.gone
    this.#life = undefined
    this.#isUp = false
    if (!this.#killed && !this.#isHeld) this.#onEnded(how)
  }
}

/** Whether there was somebody to hear it. */
function signalTo(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal)
    return true
  } catch {
    return false
  }
}
