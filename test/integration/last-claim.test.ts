/** A node whose log is not the one that it has claimed: it stops, says what to do, and does what an operator decides. */
import { cp, rm } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import { acceptLoss } from '../../node/archive/accept-loss.ts'
import { verifyLog } from '../../node/archive/verify.ts'
import { readClaim } from '../../node/last-claim.ts'
import { NodeRoom } from '../support/node-process.ts'

const room = new NodeRoom()
afterAll(() => room.close())

const silent = (): void => {}

/** Boots a node and stops it, which writes some blocks; gives what it has claimed then. */
async function run(dir: string): Promise<{ readonly epoch: number, readonly seq: number, readonly chain: string }> {
  const node = await room.start({ dir })
  expect((await node.stop()).code).toBe(0)
  const claim = readClaim(dir)
  if (claim === undefined) throw new Error('the node has claimed nothing')
  return claim
}

/** What a boot that fails says, its code first. */
async function refusal(dir: string): Promise<string> {
  const node = await room.launch({ dir })
  expect((await node.exited).code).toBe(1)
  return `${node.failure?.code}: ${node.failure?.message}`
}

test('a log that was set back, or exchanged, stops the node; an accepted loss goes on in another epoch', async () => {
  const dir = await room.dir()
  const kept = await room.dir()
  const put = async (name: string): Promise<void> => {
    await rm(path.join(dir, 'state'), { recursive: true })
    await cp(path.join(kept, name), path.join(dir, 'state'), { recursive: true })
  }

  const first = await run(dir)
  expect(first).toMatchObject({ epoch: 0, seq: (await verifyLog(dir, silent)).seq })
  await cp(path.join(dir, 'state'), path.join(kept, 'first'), { recursive: true })
  await run(dir)
  const second = await run(dir)
  expect(second.seq).toBeGreaterThan(first.seq)
  await cp(path.join(dir, 'state'), path.join(kept, 'second'), { recursive: true })

  await put('first')
  const behind = `CMESH_STATE_BEHIND: Boot stopped at step state: The log of this node ends at ${first.seq}, and this node has acknowledged up to ${second.seq}: what lies between is lost here.`
  expect(await refusal(dir)).toContain(behind)
  // Nothing was changed by that: the next start says the same.
  expect(await refusal(dir)).toContain('CMESH_STATE_BEHIND: ')

  expect(await acceptLoss({ dir, alone: false }, 0, silent)).toMatchObject({ seq: first.seq, newEpoch: 1, lost: second.seq - first.seq })
  const third = await run(dir)
  expect(third).toMatchObject({ epoch: 1 })
  expect(await verifyLog(dir, silent)).toMatchObject({ epoch: 1, seq: third.seq, chain: third.chain })

  await put('second')
  expect(await refusal(dir)).toMatch(new RegExp(`^CMESH_STATE_FORKED: .* has the chain value [0-9a-f]{16} at ${third.seq}, and this node has claimed ${third.chain.slice(0, 16)} there: `))
}, 120_000)
