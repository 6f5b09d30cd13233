/** Appends batches of one request to an audit log until it is killed, and says of each that it is durable: audit-writer.ts DIR DURABILITY. */
import { HypercoreAuditLog } from '../../providers/audit/hypercore.ts'
import { NOTE_OF_REQUEST, NOTE_OF_TEXT } from '../../services/audit/messages.ts'
import { batchOf, note, TEXT_KEY } from './audit-batches.ts'

const [dir = '', durability = 'os'] = process.argv.slice(2)
const log = new HypercoreAuditLog({ dir, durability: durability === 'disk' ? 'disk' : 'os', maxBytes: 1024 ** 3, maxAgeMs: 1e9 })
const { length } = await log.open()
for (let number = length; ; number++) {
  const id = Buffer.alloc(16)
  id.writeUInt32BE(number)
  // Texts stand once in a segment, which the first batch after a start begins, and every fortieth.
  const apart = number === length || number % 40 === 0
  const texts = apart ? [note(NOTE_OF_TEXT, number, 0, TEXT_KEY, 'a text')] : []
  await log.append(batchOf(number, [...texts, note(NOTE_OF_REQUEST, number, 0, id, `request ${number}`)], apart))
  process.stdout.write(`ack ${number}\n`)
}
