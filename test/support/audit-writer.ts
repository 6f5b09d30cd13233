/** Appends batches of one request to an audit log until it is killed, and says of each that it is durable: audit-writer.ts DIR DURABILITY. */
import { HypercoreAuditLog } from '../../providers/audit/hypercore.ts'
import { NOTE_OF_REQUEST } from '../../services/audit/messages.ts'
import { batchOf, note } from './audit-batches.ts'

const [dir = '', durability = 'os'] = process.argv.slice(2)
const log = new HypercoreAuditLog({ dir, durability: durability === 'disk' ? 'disk' : 'os', maxBytes: 1024 ** 3, maxAgeMs: 1e9 })
const { length } = await log.open()
for (let number = length; ; number++) {
  const id = Buffer.alloc(16)
  id.writeUInt32BE(number)
  await log.append(batchOf(number, [note(NOTE_OF_REQUEST, number, 0, id, `request ${number}`)], number % 40 === 0))
  process.stdout.write(`ack ${number}\n`)
}
