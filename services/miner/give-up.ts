/**
 * An end to waiting: whatever waits by it is let go, all at once, when its owner gives up. It stops nothing of what is
 * waited for. A plain set of callbacks, since hundreds wait at a time and an `AbortSignal` warns of more than ten.
 */
export class GiveUp {
  readonly #waits = new Set<() => void>()
  #over = false

  get over(): boolean {
    return this.#over
  }

  /** Lets go of every wait, and of every later one at once. Idempotent. */
  now(): void {
    this.#over = true
    for (const letGo of [...this.#waits]) letGo()
  }

  /** What the promise comes to, or `undefined` when it is given up first. */
  wait<T>(promise: Promise<T>): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const letGo = (): void => {
        this.#waits.delete(letGo)
        resolve(undefined)
      }
      this.#waits.add(letGo)
      promise.then(resolve, reject).finally(() => this.#waits.delete(letGo))
      // Behind the promise, so that one that is settled already still counts.
      if (this.#over) queueMicrotask(letGo)
    })
  }

  /** Resolves after so many ms, or when it is given up. */
  pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const letGo = (): void => {
        clearTimeout(timer)
        this.#waits.delete(letGo)
        resolve()
      }
      const timer = setTimeout(letGo, this.#over ? 0 : ms)
      this.#waits.add(letGo)
    })
  }
}
