/** A process that owns a broker, to be killed by a test: `broker-owner.ts <dir>` prints `{pid, url}` when ready and stays. */
import { ManagedBroker } from '../../node/broker/managed.ts'

const broker = new ManagedBroker({ dir: process.argv[2] as string })
await broker.start()
process.stdout.write(`${JSON.stringify({ pid: broker.pid, url: broker.url })}\n`)
