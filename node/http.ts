/** `/healthz` and `/metrics` on loopback, for the machine's own supervisor and scraper. Nothing else is served, and nothing is written. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { CMeshError } from '../cmtp/errors.ts'

export interface Health {
  /** `ok` and `degraded` answer 200: a restart would not help and cost the sessions there are. Anything else answers 503. */
  readonly status: 'ok' | 'degraded' | 'starting' | 'draining' | 'failing'
  readonly [detail: string]: unknown
}

export interface HttpParts {
  readonly host: string
  /** 0 takes a free port. */
  readonly port: number
  readonly health: () => Health
  readonly metrics: () => string
}

export class HttpFace {
  readonly #parts: HttpParts
  #server: Server | undefined

  constructor(parts: HttpParts) {
    this.#parts = parts
  }

  /** `http://host:port`; empty before `start`. */
  get url(): string {
    const address = this.#server?.address() as AddressInfo | null | undefined
    if (address === null || address === undefined) return ''
    return `http://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`
  }

  /** Rejects with `CMESH_CONFIG_INVALID` when the address cannot be listened on. */
  async start(): Promise<void> {
    const server = createServer({ requestTimeout: 5_000, headersTimeout: 5_000, maxHeaderSize: 8_192 }, (request, response) => {
      this.#answer(request, response)
    })
    await new Promise<void>((resolve, reject) => {
      server.once('error', cause => {
        reject(new CMeshError('CMESH_CONFIG_INVALID', { key: 'http.port', reason: cause.message }, { cause }))
      })
      server.listen(this.#parts.port, this.#parts.host, resolve)
    })
    this.#server = server
  }

  /** Idempotent. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    await new Promise<void>(resolve => {
      server.close(() => { resolve() })
      server.closeAllConnections()
    })
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = (request.url ?? '').split('?', 1)[0]
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      send(response, 405, 'text/plain; charset=utf-8', 'only GET and HEAD\n', { allow: 'GET, HEAD' })
    } else if (path === '/healthz') {
      const health = this.#parts.health()
      send(response, health.status === 'ok' || health.status === 'degraded' ? 200 : 503, 'application/json', `${JSON.stringify(health)}\n`)
    } else if (path === '/metrics') {
      send(response, 200, 'text/plain; version=0.0.4; charset=utf-8', this.#parts.metrics())
    } else {
      send(response, 404, 'text/plain; charset=utf-8', 'here are /healthz and /metrics\n')
    }
  }
}

function send(response: ServerResponse, status: number, type: string, body: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store', ...headers })
  response.end(response.req.method === 'HEAD' ? undefined : body)
}
