/** What the entries of a batch reply at `full` share, in the order in which it has to stand. */
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { BatchReplyWriter, decodeBatchReply } from '../../../cmtp/batch-reply.ts'
import type { CMeshError } from '../../../cmtp/errors.ts'
import { FullEntries } from '../../../services/router/full-entries.ts'
import { anyEvidence } from '../../support/receipt-parts.ts'

const EMPTY = Buffer.alloc(0)

test('evidence stands in the order of its entries, whichever was there first', async () => {
  await fc.assert(fc.asyncProperty(fc.array(fc.tuple(anyEvidence, fc.nat()), { minLength: 2, maxLength: 6 }), async all => {
    const given: (() => void)[] = []
    const writer = new BatchReplyWriter(Buffer.alloc(16), all.length, 'full')
    const frame = new Promise<Buffer | CMeshError>(resolve => {
      const fully = new FullEntries(writer, all.length, undefined, resolve)
      for (const [evidence] of all) {
        const later = new Promise<typeof evidence>(told => { given.push(() => { told(evidence) }) })
        fully.add({ status: 200, headers: EMPTY, body: EMPTY }, '\0'.repeat(32), Buffer.alloc(60), undefined, later)
      }
    })
    const order = all.map(([, when], i) => [when, i] as const).sort((a, b) => a[0] - b[0])
    for (const [, i] of order) {
      given[i]?.()
      await Promise.resolve()
    }
    expect(decodeBatchReply(await frame as Buffer).entries).toHaveLength(all.length)
  }), { numRuns: 50 })
})
