/** A process of its own that sends every request back as it came: the other end of the baseline. Login by `ECHO_SEED`, broker by `ECHO_URL`. */
import { connect, nkeyAuthenticator } from '@nats-io/transport-node'

const { ECHO_URL: servers = '', ECHO_SEED: seed = '' } = process.env

const connection = await connect({ servers, authenticator: nkeyAuthenticator(new TextEncoder().encode(seed)), noAsyncTraces: true })
connection.subscribe('cmesh.v1.req.*', { queue: 'router', callback: (_, message) => { connection.publish(message.reply ?? '', message.data) } })
await connection.flush()
process.send?.('ready')
process.on('disconnect', () => { void connection.close() })
