/**
 * The bus: what the services ask of NATS and nothing more, so that none of them names a NATS library. One bus is one
 * connection. It owns reconnecting; callers own what they subscribe to.
 */

export interface BusMessage {
  readonly subject: string
  /** The receiver's to keep and never changed by the bus; often a view of a larger chunk, so whoever keeps it long copies it. */
  readonly data: Uint8Array
  /** Where an answer goes; empty when nobody waits for one. */
  readonly reply: string
}

export interface BusSubscription {
  /** Stops intake and resolves once every message already received was handed to the handler. */
  drain(): Promise<void>
  /** Stops at once; messages not yet handed over are dropped. */
  unsubscribe(): void
}

export interface BusRequestOptions {
  /** Wait in ms, 1 to 300,000. Default 5,000. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export type BusStatus = 'connected' | 'disconnected' | 'closed'

/** Every method but `close` throws or rejects with `CMESH_BUS_CLOSED` once the bus is closed. */
export interface Bus {
  readonly status: BusStatus
  /** Fire and forget: while disconnected it is dropped and counted. Never blocks. */
  publish(subject: string, data: Uint8Array, reply?: string): void
  /** The handler is called in order and must not throw; a rejected promise it returns is its own to handle. */
  subscribe(subject: string, handler: (message: BusMessage) => void, options?: { readonly queue?: string }): BusSubscription
  /**
   * Resolves with the answer's bytes. Rejects with `CMESH_BUS_TIMEOUT`, `CMESH_BUS_NO_RESPONDERS`,
   * `CMESH_BUS_DISCONNECTED` (an answer can no longer come), `CMESH_BUS_BUSY` or `CMESH_CLIENT_ABORTED`.
   */
  request(subject: string, data: Uint8Array, options?: BusRequestOptions): Promise<Uint8Array>
  /** Resolves when the broker has seen everything published and subscribed so far. */
  flush(): Promise<void>
  /** Calls back on each change; returns the function that stops that. */
  onStatus(listener: (status: BusStatus) => void): () => void
  /** Drains every subscription and what is buffered, then closes. Idempotent. */
  close(): Promise<void>
}
