/** A bus within the process for several nodes: subjects, requests, no responders and silence, as NATS has them. No wildcards. */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Bus, BusMessage } from '../../services/bus/provider.ts'

type Handler = (message: BusMessage) => void

export class LoneBus implements Pick<Bus, 'request' | 'subscribe' | 'publish'> {
  readonly #handlers = new Map<string, Set<Handler>>()
  readonly #inboxes = new Map<string, (data: Uint8Array) => void>()
  #inbox = 0
  /** Called at each request, before it reaches anybody. */
  onRequest: () => void = () => {}

  subscribers(subject: string): number {
    return this.#handlers.get(subject)?.size ?? 0
  }

  publish(subject: string, data: Uint8Array, reply = ''): void {
    this.#inboxes.get(subject)?.(data)
    for (const handler of this.#handlers.get(subject) ?? []) handler({ subject, data, reply })
  }

  subscribe(subject: string, handler: Handler): { drain(): Promise<void>, unsubscribe(): void } {
    const handlers = this.#handlers.get(subject) ?? new Set()
    this.#handlers.set(subject, handlers.add(handler))
    const unsubscribe = (): void => { handlers.delete(handler) }
    return { unsubscribe, drain: () => Promise.resolve(unsubscribe()) }
  }

  /** Silence ends in the time-out once everybody there was asked: nobody answers later here. */
  async request(subject: string, data: Uint8Array, options: { timeoutMs?: number } = {}): Promise<Uint8Array> {
    await Promise.resolve()
    this.onRequest()
    if (this.subscribers(subject) === 0) throw new CMeshError('CMESH_BUS_NO_RESPONDERS', { subject })
    const reply = `_INBOX.${this.#inbox++}`
    let answer: Uint8Array | undefined
    this.#inboxes.set(reply, data => { answer ??= data })
    this.publish(subject, data, reply)
    this.#inboxes.delete(reply)
    if (answer === undefined) throw new CMeshError('CMESH_BUS_TIMEOUT', { subject, timeoutMs: options.timeoutMs ?? 0 })
    return answer
  }
}
