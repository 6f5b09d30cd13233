/**
 * One listener for all requests that share a signal: removing one of many listeners from a signal is a linear search. What is no
 * longer watched leaves nothing behind.
 */
import { CMeshError } from './errors.ts'

interface AbortGroup<T> {
  readonly requests: Set<T>
  readonly listener: () => void
}

export class AbortGroups<T> {
  readonly #onAbort: (request: T, error: CMeshError) => void
  readonly #groups = new Map<AbortSignal, AbortGroup<T>>()

  /** `onAbort` is told each request whose signal fired; it takes it out by `unwatch`. */
  constructor(onAbort: (request: T, error: CMeshError) => void) {
    this.#onAbort = onAbort
  }

  watch(signal: AbortSignal, request: T): void {
    let group = this.#groups.get(signal)
    if (group === undefined) {
      group = { requests: new Set(), listener: () => this.#abort(signal) }
      this.#groups.set(signal, group)
      signal.addEventListener('abort', group.listener, { once: true })
    }
    group.requests.add(request)
  }

  unwatch(signal: AbortSignal, request: T): void {
    const group = this.#groups.get(signal)
    if (group === undefined) return
    group.requests.delete(request)
    if (group.requests.size > 0) return
    this.#groups.delete(signal)
    signal.removeEventListener('abort', group.listener)
  }

  #abort(signal: AbortSignal): void {
    const error = new CMeshError('CMESH_CLIENT_ABORTED', {}, { cause: signal.reason })
    for (const request of [...this.#groups.get(signal)?.requests ?? []]) this.#onAbort(request, error)
  }
}
