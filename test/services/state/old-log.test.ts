import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { HypercoreLog } from '../../../providers/state/log.ts'
import { HypercoreStateStore } from '../../../providers/state/hypercore.ts'
import type { Transaction } from '../../../services/state/batch.ts'
import { Checkpoints } from '../../../services/state/checkpoints.ts'
import { History } from '../../../services/state/history.ts'
import { contentOf } from '../../support/blocks.ts'
import { batchOf, replica, START_MS, transactionOf, type Replica } from '../../support/replica.ts'
import { bytesOf, readVectors } from '../../support/vectors.ts'

const OLD = readVectors<{
  readonly blocks: readonly string[]
  readonly head: { readonly epoch: number, readonly seq: number, readonly timeMs: number, readonly chain: string }
  readonly content: object
}>('state/log-1.json')

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-old-log-'))
  const log = await HypercoreLog.open({ dir, durability: 'os', keyPair: undefined })
  await log.append(OLD.blocks.map(bytesOf))
  await log.close()
})
afterAll(() => rm(dir, { recursive: true, force: true }))

async function opened(): Promise<Replica & { readonly checkpoints: Checkpoints, readonly store: HypercoreStateStore }> {
  const store = new HypercoreStateStore({ dir })
  const checkpoints = new Checkpoints({ store })
  const made = await replica({
    store, seal: block => checkpoints.seal(block), restored: (block, at) => { checkpoints.restore(block, at) }, verifyMember: () => true,
  })
  return { ...made, checkpoints, store }
}

/** A transaction under an id that the old log has not. */
const asked = (fqmn: string, id: string, body = ''): Transaction => transactionOf(fqmn, { id: id.repeat(32), body: Buffer.from(body), deadlineMs: START_MS * 2 })
const headOf = ({ store: { head } }: Replica): object => ({ ...head, chain: Buffer.from(head.chain).toString('hex') })

test('a log from before there were state roots is read, goes on, and has checkpoints once one is ordered', async () => {
  const first = await opened()
  expect(headOf(first)).toEqual(OLD.head)
  expect(contentOf(first.store)).toEqual(OLD.content)
  first.checkpoints.start()
  const at = (ms: number): { readonly proposedMs: number } => ({ proposedMs: START_MS + ms })
  first.next(batchOf([asked('0xSW:0x00a:run', 'a', 'sa1')], at(200_000)))
  first.next(batchOf([asked('0xSW:0x00a:run', 'b', 'sc2')], at(300_000)))
  expect(first.applied.map(({ root, transactions }) => [root, transactions[0]?.status])).toEqual([[undefined, 200], [undefined, 200]])
  first.next(batchOf([asked('0xSW:0x000:checkpoint', 'c')], at(300_001)))
  const { checkpoint, ...shown } = first.checkpoints.show('0x00a', 'c')
  expect([checkpoint.seq, Buffer.from(shown.value ?? []).toString()]).toEqual([OLD.head.seq + 3, '2'])
  first.checkpoints.stop()
  await first.store.close()
  first.engine.close()

  const second = await opened()
  expect(headOf(second)).toEqual(headOf(first))
  second.checkpoints.start()
  expect(second.checkpoints.show('0x00a', 'c')).toEqual({ checkpoint, ...shown })
  const history = new History(second.store)
  const one = Buffer.from('1').toString('base64url')
  expect(await Promise.all([1, 2, 4, 6].map(seq => history.at('0x00a', 'a', seq)))).toEqual([
    { value: null, written: 0 }, { value: one, written: 2 }, { value: null, written: 4 }, { value: one, written: 6 },
  ])
  second.checkpoints.stop()
  await second.store.close()
  second.engine.close()
})
