/** Whose word it takes to take a log, or to give one up: real logs, a real broker, and members whose claims are made by hand. */
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { encodeClaim, signClaim } from '../../cmtp/claim.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { CLAIM_SUBJECT } from '../../cmtp/subject.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import { HypercoreStateStore } from '../../providers/state/hypercore.ts'
import type { OrderBegun } from '../../services/state/catch-up/executed.ts'
import { OwnLog, type OwnLogParts } from '../../services/state/catch-up/own-log.ts'
import type { LogAnchor, StateHead } from '../../services/state/provider.ts'
import { commitBlock, loopBlock, putBlock } from '../support/blocks.ts'
import { startBroker, type TestBroker } from '../support/broker.ts'
import { honestGiver, type Giver } from '../support/giving.ts'
import { keptLog, memberOf } from '../support/mesh.ts'

const END = 300
const [ME, ONE, TWO, THREE, LEFT] = Array.from({ length: 5 }, () => KeyPair.generate()) as [KeyPair, KeyPair, KeyPair, KeyPair, KeyPair]

let broker: TestBroker
let far: NatsBus
let root: string
let whole: HypercoreStateStore
/** As long, with another value at 40. */
let wrong: HypercoreStateStore

async function logOf(dir: string, end: number, wrongAt = 0): Promise<HypercoreStateStore> {
  const store = new HypercoreStateStore({ dir })
  await store.open(() => {})
  for (let seq = 1; seq <= end; seq++) void commitBlock(store, seq === wrongAt ? putBlock(seq, 'key 1', 'wrong') : loopBlock(seq))
  await store.flush()
  return store
}

beforeAll(async () => {
  broker = await startBroker()
  far = await connectNats({ servers: broker.url, name: 'test-far', ...broker.broker.core, connectTimeoutMs: 30_000 })
  root = await mkdtemp(join(tmpdir(), 'cmesh-own-log-'))
  whole = await logOf(join(root, 'whole'), END)
  wrong = await logOf(join(root, 'wrong'), END, 40)
})
afterAll(async () => {
  await whole.close()
  await wrong.close()
  await far.close()
  await broker.stop()
  await rm(root, { recursive: true, force: true })
})

let dir: string
let store: HypercoreStateStore
let givers: Giver[]
let clock: { ms: number }
let log: ReturnType<typeof keptLog>
/** Whether the log was noted already, each time that what was claimed of it was taken back. */
let forgotten: boolean[]
beforeEach(async () => {
  dir = await mkdtemp(join(root, 'own-'))
  givers = [honestGiver(far, ONE.did, whole), honestGiver(far, LEFT.did, wrong)]
  clock = { ms: 0 }
  log = keptLog()
  forgotten = []
})
afterEach(async () => {
  for (const giver of givers) await giver.stop()
  await store.close()
})

const noted = (): boolean => existsSync(join(dir, 'diverged.json'))

/** `names`: the members, once there is a log. */
async function ownLog(end: number, names: readonly KeyPair[], parts: Partial<OwnLogParts> = {}, wrongAt = 0): Promise<OwnLog> {
  store = await logOf(dir, end, wrongAt)
  return new OwnLog({
    bus: broker.core, did: ME.did, store, log, timeoutMs: 10_000, answerMs: 10_000, rounds: 1, verify: memberOf(ME).verify, nowMs: () => clock.ms,
    members: () => (store.head.seq === 0 ? [] : names.map(({ did }) => did)), present: () => [ONE, TWO, THREE, LEFT].map(({ did }) => did),
    forget: () => {
      forgotten.push(noted())
      return Promise.resolve()
    },
    ...parts,
  })
}

type Said = readonly (readonly [KeyPair, LogAnchor])[]

/** All of it has reached the node when this resolves. */
async function say(...claims: Said): Promise<void> {
  await broker.core.flush()
  for (const [key, { epoch, seq, chain }] of claims) {
    const text = Buffer.from(chain).toString('hex')
    far.publish(CLAIM_SUBJECT, encodeClaim(signClaim({ did: key.did, epoch, seq, chain: text, level: 'os', out: 0, timeMs: 1, version: '1' }, key)))
  }
  await far.flush()
  await broker.core.flush()
}

/** The bus of a node, and when it has begun to listen to claims for so many times. */
function heard(times: number): { readonly bus: OwnLogParts['bus'], readonly listens: Promise<void> } {
  let [count, begun] = [0, (): void => {}]
  const listens = new Promise<void>(resolve => { begun = resolve })
  return {
    listens,
    bus: {
      request: (...asked) => broker.core.request(...asked),
      publish: (...said) => { broker.core.publish(...said) },
      subscribe: (subject, ...more) => {
        const subscription = broker.core.subscribe(subject, ...more)
        if (subject === CLAIM_SUBJECT && ++count === times) begun()
        return subscription
      },
    },
  }
}

describe('a node without a log', () => {
  test('believes nobody because it was heard first: one that has left the mesh does not choose its log', async () => {
    const own = await ownLog(0, [ONE, TWO, THREE])
    const task = own.catchUp(END, () => {})
    await say([LEFT, wrong.head], [ONE, whole.head])
    clock.ms = 2_499
    await say([LEFT, wrong.head])
    clock.ms = 2_500
    await say([LEFT, wrong.head], [TWO, whole.head], [LEFT, wrong.head])
    expect(store.head.seq).toBe(0)
    await say([THREE, whole.head])
    await task
    expect(store.head).toEqual(whole.head)
    expect({ forgotten, noted: noted() }).toEqual({ forgotten: [], noted: false })
  })

  test('counts those that claim something, not those that wait for a log as it does', async () => {
    const own = await ownLog(0, [ONE])
    const task = own.catchUp(END, () => {})
    await say([ONE, whole.head])
    clock.ms = 2_500
    await say([ONE, whole.head])
    await task
    expect(store.head).toEqual(whole.head)
  })

  describe('that was heard to be vouched for by two of three others, and names four members', () => {
    /** Takes it, and resolves with what becomes of it once it asks for more. */
    async function taken(quorumMs: number, names: readonly KeyPair[] = [ME, ONE, TWO, THREE]): Promise<{ readonly task: Promise<void> }> {
      const { bus, listens } = heard(2)
      const own = await ownLog(0, names, { bus, quorumMs, present: () => [ONE, TWO, THREE].map(({ did }) => did) })
      const task = own.catchUp(END, () => {})
      task.catch(() => undefined)
      const behind = { ...whole.head, seq: END - 1 }
      clock.ms = 2_500
      await say([THREE, behind], [ONE, whole.head], [TWO, whole.head])
      await Promise.race([listens, task.catch(() => undefined)])
      return { task }
    }

    test('waits for a quorum of all: one that was rebuilt comes back where the others are busy', async () => {
      const { task } = await taken(10_000)
      await say([ONE, whole.head], [TWO, whole.head])
      expect(await store.replica.taken.read()).toEqual({ from: 0, seq: END, by: [ONE.did, TWO.did] })
      await say([THREE, whole.head])
      await task
      expect({ head: store.head, forgotten, noted: noted() }).toEqual({ head: whole.head, forgotten: [], noted: false })
      expect(await store.replica.taken.read()).toBeUndefined()
    })

    test('puts it aside where there is none in time', async () => {
      const { task } = await taken(300)
      await say([ONE, whole.head], [TWO, whole.head])
      await expect(task).rejects.toMatchObject({ code: 'CMESH_STATE_UNVOUCHED', detail: { seq: END } })
      expect({ forgotten, noted: noted() }).toEqual({ forgotten: [false], noted: true })
    })

    test('puts it aside where a quorum of those it names was certified by nobody, whatever those claim', async () => {
      const [X, Y] = [KeyPair.generate(), KeyPair.generate()]
      const { task } = await taken(10_000, [ONE, TWO, X, Y])
      await say([ONE, whole.head], [TWO, whole.head], [X, whole.head], [Y, whole.head])
      await expect(task).rejects.toMatchObject({ code: 'CMESH_STATE_UNVOUCHED' })
      expect(noted()).toBe(true)
    })
  })

  test('puts one aside that names other members than those that vouched for it: the next start would ask those', async () => {
    const own = await ownLog(0, [LEFT, KeyPair.generate(), KeyPair.generate()])
    const task = own.catchUp(END, () => {})
    clock.ms = 2_500
    await say([LEFT, wrong.head])
    await expect(task).rejects.toMatchObject({ code: 'CMESH_STATE_UNVOUCHED', detail: { seq: END } })
    expect({ forgotten, noted: noted() }).toEqual({ forgotten: [false], noted: true })
    await store.close()
    store = await logOf(dir, 0)
    expect(store.head.seq).toBe(0)
  })
})

describe('a node that was away while the mesh grew', () => {
  const FOUR = KeyPair.generate()
  /** What it lacks names three more: two of the three it knew are a quorum no longer. */
  async function grown(quorumMs: number): Promise<{ readonly own: OwnLog, readonly listensAgain: Promise<void> }> {
    const { bus, listens: listensAgain } = heard(2)
    const named = (): string[] => (store.head.seq < END ? [ME, ONE, TWO] : [ME, ONE, TWO, THREE, FOUR]).map(({ did }) => did)
    return { own: await ownLog(100, [], { bus, members: named, quorumMs }), listensAgain }
  }

  test('goes on once a quorum of those claims it that the log names now', async () => {
    const { own, listensAgain } = await grown(10_000)
    const task = own.catchUp(END, () => {})
    await say([ONE, whole.head], [TWO, whole.head])
    await listensAgain
    await say([ONE, whole.head], [TWO, whole.head], [FOUR, whole.head])
    await task
    expect({ head: store.head, forgotten, noted: noted() }).toEqual({ head: whole.head, forgotten: [], noted: false })
  })

  test('puts its log aside where that quorum claims another', async () => {
    const { own, listensAgain } = await grown(10_000)
    const task = own.catchUp(END, () => {})
    await say([ONE, whole.head], [TWO, whole.head])
    await listensAgain
    await say([TWO, wrong.head], [THREE, wrong.head], [FOUR, wrong.head])
    await expect(task).rejects.toMatchObject({ code: 'CMESH_STATE_DIVERGED' })
    expect({ forgotten, noted: noted() }).toEqual({ forgotten: [false], noted: true })
  })

  test('says that its log moved where none does: nobody may go on as if it had not', async () => {
    const { own } = await grown(300)
    const task = own.catchUp(END, () => {})
    await say([ONE, whole.head], [TWO, whole.head])
    await expect(task).rejects.toMatchObject({
      code: 'CMESH_STATE_UNVOUCHED',
      message: `This node took in its log up to sequence ${END} on the word of members that are no quorum of those that it names now. Start the other members, and start this one again.`,
    })
    expect({ head: store.head, forgotten, noted: noted() }).toEqual({ head: whole.head, forgotten: [], noted: false })
    expect(await store.replica.taken.read()).toEqual({ from: 100, seq: END, by: [ONE.did, TWO.did] })
  })
})

describe('a node that stopped with blocks that no quorum of those vouched for that its log names', () => {
  const FIVE = KeyPair.generate()
  const now = [ME, ONE, TWO, THREE, FIVE] as const
  /** Its log is open again, and names `names`. */
  async function again(names: readonly KeyPair[] = now, parts: Partial<OwnLogParts> = { quorumMs: 20 }): Promise<OwnLog> {
    await store.close()
    return ownLog(0, [], { members: () => names.map(({ did }) => did), ...parts })
  }
  /** The same, and what it is told once it asks. */
  async function told(...claims: Said): Promise<{ readonly vouched: Promise<void> }> {
    const { bus, listens } = heard(1)
    const vouched = (await again(now, { bus, quorumMs: 10_000 })).vouch(() => {})
    vouched.catch(() => undefined)
    await listens
    await say(...claims)
    return { vouched }
  }
  const note = (): boolean => existsSync(join(dir, 'taken.json'))

  beforeEach(async () => {
    store = await logOf(dir, END)
    await store.replica.taken.write({ from: 100, seq: END, by: [ONE.did, TWO.did] })
  })

  test('asks those at each start, until a quorum has', async () => {
    await expect((await again()).vouch(() => {})).rejects.toMatchObject({ code: 'CMESH_STATE_UNVOUCHED', detail: { seq: END } })
    await (await told([ONE, whole.head], [TWO, whole.head], [FIVE, whole.head])).vouched
    expect({ head: store.head, note: note(), noted: noted() }).toEqual({ head: whole.head, note: false, noted: false })
    await (await again()).vouch(() => {})
  })

  test('puts its log aside where that quorum claims another, and begins with nothing', async () => {
    const { vouched } = await told([TWO, wrong.head], [THREE, wrong.head], [FIVE, wrong.head])
    await expect(vouched).rejects.toMatchObject({ code: 'CMESH_STATE_DIVERGED' })
    await (await again()).vouch(() => {})
    expect({ seq: store.head.seq, note: note() }).toEqual({ seq: 0, note: false })
  })

  test('asks nobody where those that vouched are a quorum after all, or where nothing was taken in', async () => {
    await (await again([ME, ONE, TWO])).vouch(() => {})
    expect(note()).toBe(false)
    await store.replica.taken.write({ from: END, seq: END + 1, by: [] })
    await (await again()).vouch(() => {})
    expect({ seq: store.head.seq, note: note() }).toEqual({ seq: END, note: false })
  })

  test('puts aside what it took with an empty log, where it was killed before it could', async () => {
    await store.replica.taken.write({ from: 0, seq: END, by: [LEFT.did] })
    await expect((await again()).vouch(() => {})).rejects.toMatchObject({ code: 'CMESH_STATE_UNVOUCHED', detail: { seq: END } })
    expect(noted()).toBe(true)
    await again()
    expect({ seq: store.head.seq, note: note() }).toEqual({ seq: 0, note: false })
  })

  test('stops where it cannot read on whose word it has them', async () => {
    const own = await again()
    await writeFile(join(dir, 'taken.json'), '{"from":1}')
    await expect(own.vouch(() => {})).rejects.toMatchObject({
      code: 'CMESH_STATE_CORRUPT', detail: { path: join(dir, 'taken.json'), reason: 'it does not say on whose word blocks were taken in' },
    })
  })
})

describe('a node that lacks what a new order begins behind', () => {
  /** What a node makes of the entries; `at` 40 another one than the log `wrong` has. */
  const begun = ({ head: { seq, chain } }: HypercoreStateStore): OrderBegun => ({
    before: { seq, chain },
    execute: entry => {
      expect(Buffer.from(entry.data).toString()).toBe(Buffer.from(loopBlock(entry.seq).message).toString())
      void commitBlock(store, loopBlock(entry.seq))
    },
  })
  const kept = (): unknown => ({ forgotten, noted: noted() })

  test('executes it where no quorum says how the log goes on', async () => {
    const own = await ownLog(30, [ME, ONE, TWO], { quorumMs: 20 })
    await own.catchUp(END, () => { throw new Error('blocks were believed') }, begun(whole))
    expect(store.head).toEqual(whole.head)
  })

  test('takes it from a quorum where there is one', async () => {
    const own = await ownLog(30, [ME, ONE, TWO])
    const task = own.catchUp(END, () => {}, { ...begun(wrong), execute: () => { throw new Error('it was executed') } })
    await say([ONE, whole.head], [TWO, whole.head])
    await task
    expect(store.head).toEqual(whole.head)
  })

  test('stops at the first block that is not what it makes of the entry: no state is believed', async () => {
    const own = await ownLog(30, [ME, ONE, TWO], { quorumMs: 20 })
    await expect(own.catchUp(END, () => {}, begun(wrong))).rejects.toMatchObject({
      code: 'CMESH_STATE_DIVERGED',
      message: 'This node holds another log than the members whose log the order goes on behind, by sequence 40 at the latest. It answers for nothing until it is rebuilt from them; start it again.',
    })
    expect(store.head).toMatchObject({ seq: 40, chain: await whole.replica.chainAt(40) })
    expect(kept()).toEqual({ forgotten: [], noted: false })
  })

  test('stops, and keeps its own, where that is no beginning of it', async () => {
    const own = await ownLog(100, [ME, ONE, TWO], { quorumMs: 20 })
    const { head } = store
    await expect(own.catchUp(END, () => {}, begun(wrong))).rejects.toMatchObject({ code: 'CMESH_STATE_DIVERGED', detail: { seq: 100 } })
    expect({ head: store.head, ...kept() as object }).toEqual({ head, forgotten: [], noted: false })
  })

  test('believes nobody where it has no log: it does not know whose batches count', async () => {
    const own = await ownLog(0, [], { quorumMs: 20 })
    await expect(own.catchUp(END, () => {}, begun(whole))).rejects.toMatchObject({ code: 'CMESH_STATE_CATCH_UP' })
    expect(store.head.seq).toBe(0)
  })
})

describe('a node whose log other members contradict', () => {
  const at = async (of: HypercoreStateStore, seq: number): Promise<LogAnchor> => ({ epoch: 0, seq, chain: await of.replica.chainAt(seq) })

  test('gives it up where a quorum is of one mind; what it claimed goes first, for it would stop the next start', async () => {
    const own = await ownLog(END, [ME, ONE, TWO], {}, 40)
    const task = own.diverged(await at(whole, 50))
    await say([ONE, await at(whole, 60)], [TWO, await at(whole, 60)])
    expect(await task).toMatchObject({ code: 'CMESH_STATE_DIVERGED', detail: { seq: 40, members: ONE.did } })
    expect({ forgotten, noted: noted() }).toEqual({ forgotten: [false], noted: true })
    expect(JSON.parse(await readFile(join(dir, 'diverged.json'), 'utf8'))).toMatchObject({ seq: 40 })
  })

  test.each<[string, () => Promise<readonly (readonly [KeyPair, LogAnchor])[]>]>([
    ['none is', async () => [[ONE, await at(whole, 60)], [TWO, { ...await at(whole, 60), chain: Buffer.alloc(32, 7) }]]],
    ['it is of that quorum itself', async () => [[ME, await at(wrong, 60)], [ONE, await at(wrong, 60)]]],
  ])('keeps it where %s: nobody knows whose is right', async (_, claims) => {
    const own = await ownLog(END, [ME, ONE, TWO], { quorumMs: 300 }, 40)
    const task = own.diverged(await at(whole, 50))
    await say(...await claims())
    expect(await task).toMatchObject({
      code: 'CMESH_STATE_DIVERGED',
      message: 'This node holds another log than the members that disagree among themselves, by sequence 50 at the latest. It answers for nothing until it is rebuilt from them; start it again.',
    })
    expect({ forgotten, noted: noted() }).toEqual({ forgotten: [], noted: false })
    expect(log.lines).toMatchObject([{ level: 'error', fields: { seq: 50 } }])
  })

  test('takes back what it claimed also where it finds that out when it catches up', async () => {
    const own = await ownLog(100, [ME, ONE, TWO], {}, 40)
    const head: StateHead = store.head
    const task = own.catchUp(END, () => {})
    await say([ONE, whole.head], [TWO, whole.head])
    await expect(task).rejects.toMatchObject({ code: 'CMESH_STATE_DIVERGED', detail: { seq: 40 } })
    expect({ head: store.head, forgotten, noted: noted() }).toEqual({ head, forgotten: [false], noted: true })
  })
})
