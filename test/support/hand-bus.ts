/** A bus of which the test is the broker: what was subscribed and published is there to look at, messages are brought by hand. */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Bus, BusMessage, BusRequestOptions, BusStatus, BusSubscription } from '../../services/bus/provider.ts'

export interface HandSubscription {
  readonly subject: string
  readonly queue: string | undefined
  readonly handler: (message: BusMessage) => void
  open: boolean
}

export class HandBus implements Bus {
  status: BusStatus = 'connected'
  readonly subscriptions: HandSubscription[] = []
  readonly published: { readonly subject: string, readonly data: Uint8Array }[] = []
  readonly requests: { readonly subject: string, readonly data: Uint8Array, readonly options: BusRequestOptions | undefined }[] = []
  /** How often everything published so far was flushed. */
  flushes: number[] = []
  /** Called before a message is taken; throws what the broker would refuse. */
  onPublish: (subject: string, data: Uint8Array) => void = () => {}
  /** Answers requests. */
  onRequest: (subject: string, data: Uint8Array) => Promise<Uint8Array> = subject => Promise.reject(new CMeshError('CMESH_BUS_NO_RESPONDERS', { subject }))

  publish(subject: string, data: Uint8Array): void {
    if (this.status === 'closed') throw new CMeshError('CMESH_BUS_CLOSED')
    this.onPublish(subject, data)
    this.published.push({ subject, data })
  }

  subscribe(subject: string, handler: (message: BusMessage) => void, options?: { readonly queue?: string }): BusSubscription {
    const subscription: HandSubscription = { subject, queue: options?.queue, handler, open: true }
    this.subscriptions.push(subscription)
    const unsubscribe = (): void => { subscription.open = false }
    return { unsubscribe, drain: async () => { unsubscribe() } }
  }

  request(subject: string, data: Uint8Array, options?: BusRequestOptions): Promise<Uint8Array> {
    this.requests.push({ subject, data, options })
    return this.onRequest(subject, data)
  }

  async flush(): Promise<void> {
    if (this.status === 'closed') throw new CMeshError('CMESH_BUS_CLOSED')
    this.flushes.push(this.published.length)
  }

  onStatus(): () => void {
    return () => {}
  }

  async close(): Promise<void> {
    this.status = 'closed'
  }

  /** Brings a message to the one subscription of that subject, or of that pattern. */
  bring(pattern: string, message: BusMessage): void {
    const [subscription] = this.subscriptions.filter(each => each.subject === pattern && each.open)
    if (subscription === undefined) throw new Error(`nobody listens on ${pattern}`)
    subscription.handler(message)
  }
}
