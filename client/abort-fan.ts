/**
 * One listener per signal, however many wait on it. A program may hand one signal to thousands of calls; as many listeners
 * would each cost a linear search to remove, and a warning of the runtime. What no longer waits leaves nothing behind.
 */

export class AbortFan {
  readonly #groups = new Map<AbortSignal, { readonly waiting: Set<() => void>, readonly listener: () => void }>()

  /** Calls `wake` once when the signal fires; returns what stops that. The signal must not have fired. */
  on(signal: AbortSignal, wake: () => void): () => void {
    let group = this.#groups.get(signal)
    if (group === undefined) {
      const waiting = new Set<() => void>()
      const listener = (): void => {
        this.#groups.delete(signal)
        for (const each of waiting) each()
      }
      group = { waiting, listener }
      this.#groups.set(signal, group)
      signal.addEventListener('abort', listener, { once: true })
    }
    const { waiting, listener } = group
    waiting.add(wake)
    return () => {
      if (!waiting.delete(wake) || waiting.size > 0) return
      signal.removeEventListener('abort', listener)
      this.#groups.delete(signal)
    }
  }

  /** Resolves after `ms`, or when one of the signals fires, or has. Never rejects. */
  pause(ms: number, ...signals: readonly (AbortSignal | undefined)[]): Promise<void> {
    return this.until(ms, () => () => undefined, ...signals)
  }

  /** The same, and when what `subscribe` is given is called; `subscribe` returns what takes it back. */
  until(ms: number, subscribe: (wake: () => void) => () => void, ...signals: readonly (AbortSignal | undefined)[]): Promise<void> {
    return new Promise((resolve) => {
      if (signals.some((signal) => signal?.aborted === true)) return resolve()
      const wake = (): void => {
        clearTimeout(timer)
        for (const stop of stops) stop()
        resolve()
      }
      const timer = setTimeout(wake, ms)
      const stops = [subscribe(wake), ...signals.flatMap((signal) => (signal === undefined ? [] : [this.on(signal, wake)]))]
    })
  }
}
