/** Replicas that catch up from one another: real logs, a real broker, and peers that lie. */
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import { HypercoreStateStore } from '../../providers/state/hypercore.ts'
import { MockStateStore } from '../../providers/state/mock.ts'
import { SILENT_LOG } from '../../services/log.ts'
import { encodeBlock } from '../../services/state/block.ts'
import { catchUp, type CatchUpParts, type CatchUpTask } from '../../services/state/catch-up/catch-up.ts'
import { divergedAt } from '../../services/state/catch-up/divergence.ts'
import { encodeAnswer } from '../../services/state/catch-up/wire.ts'
import type { Block, StateHead, StateStore } from '../../services/state/provider.ts'
import { commitBlock, contentOf, loopBlock, putBlock } from '../support/blocks.ts'
import { startBroker, type TestBroker } from '../support/broker.ts'
import { honestGiver, hostileGiver, type Giver, type Twist } from '../support/giving.ts'

/** Five segments, the first and the last of them short. */
const FROM = 100
const END = 1_200

let broker: TestBroker
let far: NatsBus
let root: string
let whole: HypercoreStateStore
/** As long as `whole`, with another value at 437. */
let wrong: HypercoreStateStore

async function logOf(dir: string, blocks: Iterable<Block>): Promise<HypercoreStateStore> {
  const store = new HypercoreStateStore({ dir })
  await store.open(() => {})
  for (const block of blocks) void commitBlock(store, block)
  await store.flush()
  return store
}

function* blocksTo(end: number, wrongAt = 0): Generator<Block> {
  for (let seq = 1; seq <= end; seq++) yield seq === wrongAt ? putBlock(seq, 'key 1', 'wrong') : loopBlock(seq)
}

beforeAll(async () => {
  broker = await startBroker()
  far = await connectNats({ servers: broker.url, name: 'test-far', ...broker.broker.core, connectTimeoutMs: 30_000 })
  root = await mkdtemp(join(tmpdir(), 'cmesh-catch-up-'))
  whole = await logOf(join(root, 'whole'), blocksTo(END))
  wrong = await logOf(join(root, 'wrong'), blocksTo(END, 437))
})
afterAll(async () => {
  await whole.close()
  await wrong.close()
  await far.close()
  await broker.stop()
  await rm(root, { recursive: true, force: true })
})

let stores: StateStore[]
let givers: Giver[]
let dir: string
beforeEach(async () => {
  stores = []
  givers = []
  dir = await mkdtemp(join(root, 'taker-'))
})
afterEach(async () => {
  for (const giver of givers) await giver.stop()
  for (const store of stores) await store.close()
})

async function taker(end = 0, wrongAt = 0): Promise<HypercoreStateStore> {
  const store = await logOf(dir, blocksTo(end, wrongAt))
  stores.push(store)
  return store
}

const partsOf = (store: StateStore, parts: Partial<CatchUpParts> = {}): CatchUpParts =>
  ({ bus: broker.core, did: 'did:key:taker', store, log: SILENT_LOG, timeoutMs: 10_000, answerMs: 10_000, rounds: 1, ...parts })

/** Those that give are on another connection; it is settled before anybody asks. */
async function give(...all: readonly Giver[]): Promise<void> {
  givers.push(...all)
  await far.flush()
}

const bring = (store: StateStore, task: Partial<CatchUpTask> = {}, parts: Partial<CatchUpParts> = {}): Promise<StateHead> =>
  catchUp(partsOf(store, parts), { trusted: whole.head, onBlock: () => {}, ...task })

describe('a replica that lacks blocks', () => {
  test.each([0, FROM, 256, END - 1])('with a log up to %i takes the rest from another, in order, and tells how far it is', async end => {
    const store = await taker(end)
    await give(honestGiver(far, 'did:key:a', whole))
    const seen: number[] = []
    const progress: number[] = []
    const head = await bring(store, {
      onBlock: block => seen.push(block.seq),
      onProgress: ({ blocks, of, bytes }) => {
        expect(of).toBe(END - end)
        expect(bytes).toBeGreaterThan(0)
        progress.push(blocks)
      },
    })
    expect(head).toEqual(whole.head)
    expect(seen).toEqual(Array.from({ length: END - end }, (_, i) => end + 1 + i))
    expect(progress).toEqual([...progress].sort((a, b) => a - b))
    expect(progress.at(-1)).toBe(END - end)
    expect(contentOf(store)).toEqual(contentOf(whole))
    await store.close()
    const again = await taker()
    expect(again.head).toEqual(whole.head)
    expect(existsSync(join(dir, 'received'))).toBe(false)
  })

  test('goes up to what was signed, also where others have more', async () => {
    const store = await taker(5)
    await give(honestGiver(far, 'did:key:a', whole))
    const trusted = { epoch: 0, seq: 700, chain: await whole.replica.chainAt(700) }
    expect(await bring(store, { trusted })).toMatchObject(trusted)
  })

  test('has nothing to do where it is as far, and asks nobody', async () => {
    const store = await taker(FROM)
    const giver = honestGiver(far, 'did:key:a', whole)
    await give(giver)
    const { head } = store
    expect(await bring(store, { trusted: head })).toBe(head)
    expect(await bring(store, { trusted: { epoch: 0, seq: 3, chain: head.chain } })).toBe(head)
    expect(giver.asked).toEqual([])
  })

  test('goes on with another where the first one goes away, and keeps what it has', async () => {
    const store = await taker()
    let second: Giver | undefined
    const first = honestGiver(far, 'did:key:a', whole, () => {
      // It goes away with the third question, which is never answered, nor is what it still works on.
      if (first.asked.length === 3) void first.stop()
    })
    await give(first)
    const head = await bring(store, {
      onProgress: () => {
        if (second !== undefined) return
        second = honestGiver(far, 'did:key:b', whole)
        givers.push(second)
      },
    }, { timeoutMs: 500, rounds: 5, answerMs: 2_000 })
    expect(head).toEqual(whole.head)
    expect(contentOf(store)).toEqual(contentOf(whole))
    // The newest segment came from the first one, and from nobody else.
    expect(first.asked[0]).toBe(1_025)
    expect([...second?.asked ?? []].sort((a, b) => a - b)).toEqual([1, 257, 513, 769])
  })

  test('takes blocks larger than one message in pieces', async () => {
    const sizes = [100, 3_000_000, 100, 12_000_000]
    const blocks = sizes.map((size, i) => ({ ...loopBlock(i + 1), message: Buffer.alloc(size, i) }))
    const large = await logOf(join(dir, 'large'), blocks)
    stores.push(large)
    const store = await logOf(join(dir, 'taker'), [])
    stores.push(store)
    await give(honestGiver(far, 'did:key:a', large))
    expect(await bring(store, { trusted: large.head })).toEqual(large.head)
    for (const seq of [2, 4]) {
      const [bytes] = await store.replica.read(seq, seq, 1)
      expect(Buffer.compare(bytes as Uint8Array, encodeBlock(blocks[seq - 1] as Block))).toBe(0)
    }
  })

  test('is told when nobody is there who has what it lacks', async () => {
    const store = await taker()
    await give(honestGiver(far, 'did:key:a', wrong))
    const trusted = { ...whole.head, seq: END + 1 }
    await expect(bring(store, { trusted }, { answerMs: 200 })).rejects.toMatchObject({
      code: 'CMESH_STATE_CATCH_UP',
      message: 'The blocks that this node lacks could not be had from other members: none that has them answered. '
        + 'Start the other members, or wait until they can be reached, and start this one again.',
    })
  })

  test('asks not itself, and gives up when it is told to', async () => {
    const store = await taker()
    await give(honestGiver(far, 'did:key:taker', whole))
    await expect(bring(store, {}, { answerMs: 200 })).rejects.toMatchObject({ code: 'CMESH_STATE_CATCH_UP' })
    await give(hostileGiver(far, 'did:key:silent', whole, () => undefined))
    const stop = new AbortController()
    const task = bring(store, { signal: stop.signal })
    stop.abort()
    await expect(task).rejects.toMatchObject({ code: 'CMESH_CLIENT_ABORTED' })
  })

  test('that keeps no blocks cannot', async () => {
    const store = new MockStateStore()
    await store.open()
    await expect(bring(store)).rejects.toMatchObject({ code: 'CMESH_STATE_CATCH_UP', detail: { reason: 'the state of this node keeps no blocks' } })
  })
})

describe('a peer that sends anything but what a quorum signed', () => {
  const onBlocks = (change: (blocks: readonly Uint8Array[]) => readonly Uint8Array[]): Twist =>
    answer => (answer.kind === 'blocks' ? { ...answer, blocks: change(answer.blocks) } : answer)
  const flipped = (bytes: Uint8Array): Uint8Array => {
    const other = Buffer.from(bytes)
    other[other.length >> 1] = (other[other.length >> 1] as number) ^ 1
    return other
  }
  const twists: readonly (readonly [string, Twist, string])[] = [
    ['a bit of a block', onBlocks(blocks => blocks.map((block, i) => (i === 9 ? flipped(block) : block))), `its blocks up to ${END} are not those that a quorum signed`],
    ['blocks in another order', onBlocks(blocks => blocks.toReversed()), 'are not those that a quorum signed'],
    ['a block twice in place of the next', onBlocks(blocks => blocks.map((block, i) => (i === 1 ? blocks[0] as Uint8Array : block))), 'are not those that a quorum signed'],
    ['one block too many', onBlocks(blocks => [...blocks, ...blocks.slice(0, 1)]), 'it sent other blocks than it was asked for'],
    ['no blocks', onBlocks(() => []), 'it sent other blocks than it was asked for'],
    ['a false chain value', answer => (answer.kind === 'chains' ? { ...answer, chains: answer.chains.map(flipped) } : answer), 'are not those that a quorum signed'],
    ['a chain value too few', answer => (answer.kind === 'chains' ? { ...answer, chains: answer.chains.slice(1) } : answer), 'it sent other chain values than it was asked for'],
    ['a block without end', answer => (answer.kind === 'blocks' ? { kind: 'piece', length: 2 ** 40, bytes: Buffer.alloc(9) } : answer), 'it sent a block of 1099511627776 bytes'],
    ['empty pieces', answer => (answer.kind === 'blocks' ? { kind: 'piece', length: 99, bytes: Buffer.alloc(0) } : answer), 'the pieces of a block do not fit'],
    ['more than the length of a block', answer => (answer.kind === 'blocks' ? { kind: 'piece', length: 99, bytes: Buffer.alloc(100) } : answer), 'the pieces of a block do not fit'],
    ['a piece of another length', (answer, question) => (
      question.kind === 'blocks' ? { kind: 'piece', length: 99 + question.offset, bytes: Buffer.alloc(9) } : answer
    ), 'the pieces of a block do not fit'],
    ['an answer to another question', () => ({ kind: 'heads', did: 'x', head: whole.head }), 'it sent other'],
    ['bytes that are no answer', () => Buffer.from('hello'), 'a message among replicas is malformed: byte 0 is not the start of a message among replicas'],
    ['half an answer', answer => { const bytes = encodeAnswer(answer); return bytes.subarray(0, bytes.length - 1) }, 'a message among replicas is malformed'],
    ['a refusal', () => ({ kind: 'refused', reason: 'no' }), 'it refused: no'],
    ['nothing', () => undefined, 'No answer on cmesh.v1.ctl.blocks.did=3akey=3aliar within 300 ms.'],
  ]

  test.each(twists)('%s: nothing gets into the log, and an honest one is taken after it', async (_, twist, reason) => {
    const store = await taker(FROM)
    const before = { head: store.head, content: contentOf(store), bytes: await store.replica.read(FROM, FROM, 1) }
    const liar = hostileGiver(far, 'did:key:liar', whole, twist)
    await give(liar)
    const alone = await bring(store, { onBlock: () => { throw new Error('a block got in') } }, { timeoutMs: 300, answerMs: 300 })
      .then(() => 'it was taken in', (thrown: unknown) => thrown)
    expect(alone).toMatchObject({ code: 'CMESH_STATE_CATCH_UP', detail: { reason: expect.stringContaining(reason) } })
    expect({ head: store.head, content: contentOf(store), bytes: await store.replica.read(FROM, FROM, 1) }).toEqual(before)
    expect(existsSync(join(dir, 'received'))).toBe(false)

    await give(honestGiver(far, 'did:key:honest', whole))
    expect(await bring(store, {}, { timeoutMs: 2_000 })).toEqual(whole.head)
    expect(contentOf(store)).toEqual(contentOf(whole))
  })

  test('a log of its own with chain values that go with it is found out at the first segment', async () => {
    const store = await taker()
    const liar = hostileGiver(far, 'did:key:liar', wrong, answer => answer)
    await give(liar)
    await expect(bring(store, {}, { answerMs: 300 })).rejects.toMatchObject({
      code: 'CMESH_STATE_CATCH_UP', detail: { reason: `did:key:liar: its blocks up to ${END} are not those that a quorum signed` },
    })
    expect(liar.asked).toEqual([1_025])
    expect(store.head.seq).toBe(0)
  })
})

describe('a replica that wrote another value than the quorum', () => {
  test('is told the exact sequence, keeps its log aside, and is rebuilt under a new key', async () => {
    const other = await logOf(join(dir, 'other'), blocksTo(END))
    stores.push(other)
    await give(honestGiver(far, 'did:key:a', whole), honestGiver(far, 'did:key:b', other))
    const own = join(dir, 'own')
    const store = await logOf(own, blocksTo(600, 437))
    stores.push(store)
    const key = await readFile(join(own, 'key'), 'utf8')

    const error = await divergedAt(partsOf(store), { epoch: 0, seq: 550, chain: await whole.replica.chainAt(550) })
    expect(error).toMatchObject({
      code: 'CMESH_STATE_DIVERGED', detail: { seq: 437 },
      message: expect.stringMatching(/^This node holds another log than the members did:key:[ab], by sequence 437 at the latest\. It answers for nothing/),
    })
    await store.close()

    const healed = await logOf(own, [])
    stores.push(healed)
    expect(healed.head.seq).toBe(0)
    expect((await readdir(own)).sort()).toEqual(['key', 'log', 'log.diverged-437'])
    expect((await readdir(join(own, 'log.diverged-437'))).sort()).toEqual(['diverged.json', 'key', 'log'])
    expect(await readFile(join(own, 'key'), 'utf8')).not.toBe(key)
    expect(await bring(healed)).toEqual(whole.head)
    expect(contentOf(healed)).toEqual(contentOf(whole))

    const kept = await logOf(join(own, 'log.diverged-437'), []).then(() => 'opened', (thrown: unknown) => thrown)
    expect(kept).toBe('opened')
  })

  test('finds it out when it catches up, before anything is added to its log', async () => {
    const store = await taker(600, 437)
    const { head } = store
    await give(honestGiver(far, 'did:key:a', whole))
    await expect(bring(store)).rejects.toMatchObject({ code: 'CMESH_STATE_DIVERGED', detail: { seq: 437 } })
    expect(store.head).toBe(head)
    expect(JSON.parse(await readFile(join(dir, 'diverged.json'), 'utf8'))).toMatchObject({
      seq: 437, own: expect.stringContaining('sequence 600'), peers: [expect.stringMatching(/^did:key:a: .* sequence 600/)],
    })
  })

  test('is noted at the signed sequence where nobody of the quorum answers', async () => {
    const store = await taker(600, 437)
    await give(hostileGiver(far, 'did:key:liar', wrong, answer => answer))
    const quorum = { epoch: 0, seq: 500, chain: await whole.replica.chainAt(500) }
    expect(await divergedAt(partsOf(store, { answerMs: 200 }), quorum)).toMatchObject({ detail: { seq: 500 } })
  })

  test.each([1, 255, 256, 257, 511, 599, 600])('at %i is found there', async seq => {
    const store = await taker(600, seq)
    await give(honestGiver(far, 'did:key:a', whole))
    const quorum = { epoch: 0, seq: 600, chain: await whole.replica.chainAt(600) }
    expect(await divergedAt(partsOf(store), quorum)).toMatchObject({ detail: { seq } })
  })

  test('a note that nobody can read stops the opening', async () => {
    const store = await taker(3)
    await store.replica.markDiverged({ seq: 'x' as unknown as number, own: '', peers: [] })
    await store.close()
    await expect(taker()).rejects.toMatchObject({ code: 'CMESH_STATE_CORRUPT', detail: { path: join(dir, 'diverged.json') } })
  })
})

