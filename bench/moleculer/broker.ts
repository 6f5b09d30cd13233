/** A Moleculer service broker as the comparison runs it: its defaults, its NATS transporter, no log. */
import { natsAuthenticator } from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { loadPeer } from '../peers.ts'

/** The parts of Moleculer that are used here. */
export interface ServiceBroker {
  start(): Promise<void>
  stop(): Promise<void>
  waitForServices(name: string): Promise<void>
  call(action: string, params: object): Promise<unknown>
  createService(schema: { readonly name: string, readonly actions: Record<string, (context: { readonly params: unknown }) => unknown> }): void
}

interface Moleculer {
  readonly ServiceBroker: new (options: object) => ServiceBroker
}

export interface MoleculerLogin {
  readonly url: string
  readonly nkeySeed: string
  readonly jwt: string
}

export const ACTION = { service: 'bench', verb: 'echo', name: 'bench.echo' } as const
/** As many bytes as the other baseline sends. */
export const PAYLOAD = 'x'.repeat(200)

export function moleculerBroker(nodeID: string, { url, nkeySeed, jwt }: MoleculerLogin): ServiceBroker {
  const { ServiceBroker } = loadPeer<Moleculer>('moleculer')
  const authenticator = natsAuthenticator(Nkey.fromSeed(nkeySeed), () => jwt)
  return new ServiceBroker({ nodeID, logger: false, transporter: { type: 'NATS', options: { servers: url, authenticator } } })
}
