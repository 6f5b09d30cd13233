/** Who is connected to a broker with accounts, as the server tells whoever has the system account's key. */
import type { BrokerAccounts } from '../../cmtp/identity/nats-accounts.ts'
import { userJwt } from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { connectNats } from '../../providers/bus/nats.ts'

export interface BrokerConnection {
  readonly name?: string
  /** When it began. */
  readonly start: string
  readonly subscriptions_list?: readonly string[]
}

export async function connectionsAt(url: string, { accounts: { SYS } }: BrokerAccounts): Promise<readonly BrokerConnection[]> {
  const nkey = Nkey.generate('user')
  const jwt = userJwt(SYS.signing, { nkey: nkey.text, name: 'monitor', account: SYS.id, nowS: Math.floor(Date.now() / 1_000) })
  const monitor = await connectNats({ servers: url, nkeySeed: nkey.exportSeed(), jwt })
  try {
    const answer = await monitor.request('$SYS.REQ.SERVER.PING.CONNZ', Buffer.from('{"subscriptions":true}'))
    return (JSON.parse(Buffer.from(answer).toString('utf8')) as { data: { connections: BrokerConnection[] } }).data.connections
  } finally {
    await monitor.close()
  }
}
