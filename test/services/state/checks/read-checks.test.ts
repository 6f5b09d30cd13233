/** Reads checked by other members, who are honest, wrong, silent, hostile or away: real questions, answers, keys and tokens; state is made by hand. */
import { beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals'
import { CMeshError } from '../../../../cmtp/errors.ts'
import { parseFqmn } from '../../../../cmtp/fqmn.ts'
import { decodeHeaders, headerValue } from '../../../../cmtp/headers.ts'
import { KeyPair } from '../../../../cmtp/identity/keys.ts'
import type { Session } from '../../../../cmtp/identity/login.ts'
import type { Bus, BusMessage } from '../../../../services/bus/provider.ts'
import { jsonReply, type Call, type Reply } from '../../../../services/call.ts'
import type { AuthContext } from '../../../../services/iam/guard.ts'
import { checkSubject } from '../../../../services/state/checks/answerer.ts'
import { CHECKED_HEADER, ReadChecks, type ReadChecksParts } from '../../../../services/state/checks/read-checks.ts'
import { decodeQuestion, encodeAnswer, encodeQuestion, QUESTION_BYTES } from '../../../../services/state/checks/wire.ts'
import { testCall } from '../../../support/calls.ts'
import { startIam, type IamFixture } from '../../../support/iam.ts'
import { keptLog, memberOf, testClock } from '../../../support/mesh.ts'

const KEYS = Array.from({ length: 5 }, (_, i) => KeyPair.fromSeed(Buffer.alloc(32, i + 1)))
const [ME, ONE, TWO, THREE, FOUR] = KEYS as [KeyPair, KeyPair, KeyPair, KeyPair, KeyPair]
const GAS = 2_000_000
/** Of who waits for blocks that come: whatever else the machine does meanwhile. */
const PATIENT = { patienceMs: 1_000 }

let iam: IamFixture
let session: Session
let auth: AuthContext
beforeAll(async () => {
  iam = await startIam()
  session = await iam.open()
  auth = await iam.enter(session)
})

/** Subjects and inboxes within this process; an answer may come later. */
class Exchange implements Pick<Bus, 'status' | 'request' | 'subscribe' | 'publish'> {
  readonly status = 'connected'
  readonly #handlers = new Map<string, (message: BusMessage) => void>()
  readonly #inboxes = new Map<string, (data: Uint8Array) => void>()
  readonly #signals = new WeakSet<AbortSignal>()
  readonly #aborts: (() => void)[] = []
  readonly asked: string[] = []
  /** Nobody's patience ends. */
  patient = false
  /** Of whom answers are kept back, and those that are. */
  readonly held = new Map<KeyPair, (() => void)[]>()

  publish(subject: string, data: Uint8Array): void {
    const asked = this.asked[Number(subject.split('.').at(-1)) - 1]
    const [, kept] = [...this.held].find(([key]) => checkSubject(key.did) === asked) ?? []
    if (kept === undefined) this.#deliver(subject, data)
    else kept.push(() => { this.#deliver(subject, data) })
  }

  #deliver(subject: string, data: Uint8Array): void {
    this.#inboxes.get(subject)?.(data)
  }

  subscribe(subject: string, handler: (message: BusMessage) => void): { drain(): Promise<void>, unsubscribe(): void } {
    this.#handlers.set(subject, handler)
    const unsubscribe = (): void => { this.#handlers.delete(subject) }
    return { unsubscribe, drain: async () => { unsubscribe() } }
  }

  request(subject: string, data: Uint8Array, { timeoutMs = 0, signal }: { timeoutMs?: number, signal?: AbortSignal } = {}): Promise<Uint8Array> {
    if (signal?.aborted === true) return Promise.reject(new CMeshError('CMESH_CLIENT_ABORTED'))
    this.asked.push(subject)
    const handler = this.#handlers.get(subject)
    if (handler === undefined) return Promise.reject(new CMeshError('CMESH_BUS_NO_RESPONDERS', { subject }))
    const reply = `_INBOX.node.${this.asked.length}`
    if (signal !== undefined && !this.#signals.has(signal)) {
      this.#signals.add(signal)
      signal.addEventListener('abort', () => { for (const abort of this.#aborts) abort() })
    }
    return new Promise((resolve, reject) => {
      const late = this.patient ? undefined : setTimeout(() => { reject(new CMeshError('CMESH_BUS_TIMEOUT', { subject, timeoutMs })) }, timeoutMs).unref()
      this.#aborts.push(() => {
        clearTimeout(late)
        reject(new CMeshError('CMESH_CLIENT_ABORTED'))
      })
      this.#inboxes.set(reply, answer => {
        clearTimeout(late)
        resolve(answer)
      })
      handler({ subject, data, reply })
    })
  }
}

/** What a member has: its log's end, and since when the view gives that value. */
interface State { head: number, from: number, value: unknown }

interface Node {
  readonly checks: ReadChecks
  readonly state: State
  readonly log: ReturnType<typeof keptLog>
  readonly events: Record<string, unknown>[]
  runs: number
  /** A block is applied, which changes what the view gives or not. */
  block(value?: unknown): void
  read(fields?: Partial<Call>): Promise<Reply>
}

let exchange: Exchange
beforeEach(() => { exchange = new Exchange() })

function node(key: KeyPair, parts: Partial<ReadChecksParts> = {}, { head = 5, from = 3, value = 'right' }: Partial<State> = {}): Node {
  const state = { head, from, value }
  const log = keptLog()
  const events: Node['events'] = []
  const checks = new ReadChecks({
    mode: 'all', oneIn: 1, bus: exchange, guard: iam.guard, member: memberOf(key), members: () => KEYS.slice(0, 3).map(({ did }) => did), gasLimit: GAS,
    confirm: context => { iam.guard.confirm(context) }, applied: () => state.head, clock: testClock(iam.clock), log,
    audit: async data => { events.push(JSON.parse(Buffer.from(data).toString('utf8')) as Record<string, unknown>) },
    run: (_call, _auth, notes, exact) => {
      made.runs++
      notes.gas = 7n
      if (exact !== undefined) Object.assign(exact, { from: state.from, to: state.head })
      if (state.value instanceof CMeshError) throw state.value
      return jsonReply(state.value)
    },
    ...parts,
  })
  const made: Node = {
    checks, state, log, events, runs: 0,
    block: next => {
      state.head++
      if (next !== undefined) Object.assign(state, { value: next, from: state.head })
      checks.applied(state.head)
    },
    read: async (fields = {}) => checks.read(testCall('0xS:0x001:f:["x"]', { deadlineMs: iam.clock.ms + 60_000, ...fields }), auth, { gas: 0n, before: undefined, after: undefined }),
  }
  checks.start()
  return made
}

/** A member that answers as the test says; `undefined` is silence. */
function scripted(key: KeyPair, answer: (question: Uint8Array) => Uint8Array | undefined): void {
  exchange.subscribe(checkSubject(key.did), ({ data, reply }) => {
    const bytes = answer(data)
    if (bytes !== undefined) exchange.publish(reply, bytes)
  })
}

const checked = (reply: Reply): string | undefined => headerValue(decodeHeaders(reply.headers), CHECKED_HEADER)
const valueOf = (reply: Reply): unknown => JSON.parse(Buffer.from(reply.body).toString('utf8'))
const askedOf = (key: KeyPair): number => exchange.asked.filter(subject => subject === checkSubject(key.did)).length
const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

describe('under all', () => {
  test('a reply leaves with how many of how many agree, at which sequence, and nobody is asked beyond the quorum', async () => {
    const [me, one, two] = [node(ME), node(ONE, {}, { head: 7, from: 2 }), node(TWO)]
    const reply = await me.read()
    expect([valueOf(reply), checked(reply)]).toEqual(['right', '2/3 @5'])
    expect(one.runs + two.runs).toBe(1)
    await me.read()
    expect([one.runs, two.runs]).toEqual([1, 1])
    expect([me.checks.stats, one.checks.stats]).toMatchObject([{ agreed: 2, mismatches: 0 }, { answered: 1, gas: 7 }])
  })

  test('a member that is behind answers once it has what this node had, in the very turn in which it has it', async () => {
    const [me, one] = [node(ME), node(ONE, {}, { head: 4, from: 4, value: 'old' })]
    const reading = me.read()
    await turn()
    expect(one.runs).toBe(0)
    one.block('right')
    one.block('new')
    expect([checked(await reading), me.events]).toEqual(['2/3 @5', []])
  })

  test('where state changed between two members both run it again behind one later block: nobody is called wrong', async () => {
    const [me, one] = [node(ME, PATIENT), node(ONE, PATIENT, { head: 9, from: 9, value: 'new' })]
    const reading = me.read()
    for (let i = 0; i < 3; i++) me.block()
    me.block('new')
    for (let i = 0; i < 3; i++) me.block()
    const reply = await reading
    expect([valueOf(reply), checked(reply)]).toEqual(['new', '2/3 @9'])
    expect([me.events, one.events]).toEqual([[], []])
  })

  test('a silent member does not keep the others from another round', async () => {
    exchange.patient = true
    const [me, two] = [node(ME, PATIENT, { from: 5, value: 'at 5' }), node(TWO, PATIENT, { head: 9, from: 9, value: 'at 9' })]
    scripted(ONE, () => undefined)
    const reading = me.read()
    while (askedOf(TWO) < 2) await turn()
    for (let seq = 6; seq <= 11; seq++) me.block(`at ${seq}`)
    for (let seq = 10; seq <= 11; seq++) two.block(`at ${seq}`)
    const reply = await reading
    expect([valueOf(reply), checked(reply), me.events]).toEqual(['at 11', '2/3 @11', []])
    await me.checks.stop()
  })

  /** Three of five, two of which are away; the view is another one behind each block. */
  const three = (...heads: readonly number[]): Node[] => [ME, ONE, TWO].map((key, i) =>
    node(key, { ...PATIENT, members: () => KEYS.map(({ did }) => did) }, { head: heads[i] ?? 0, from: heads[i] ?? 0, value: `at ${heads[i]}` }))
  const advance = (nodes: readonly Node[], to: number): void => {
    for (const { state, block } of nodes) for (let seq = state.head + 1; seq <= to; seq++) block(`at ${seq}`)
  }

  test('whoever agreed with this node behind an earlier block runs it again with the others', async () => {
    const nodes = three(5, 5, 6)
    const [me] = nodes as [Node]
    const reading = me.read()
    while (askedOf(TWO) < 2) await turn()
    advance(nodes, 8)
    expect(checked(await reading)).toBe('3/5 @8')
    expect([me.runs, askedOf(ONE), askedOf(TWO)]).toEqual([2, 2, 2])
  })

  test('what a member says of a round that was given up does not take the place of its later word', async () => {
    exchange.patient = true
    const nodes = three(5, 7, 9)
    const [me] = nodes as [Node]
    const [first, second]: [(() => void)[], (() => void)[]] = [[], []]
    exchange.held.set(ONE, first)
    const reading = me.read()
    while (first.length === 0) await turn()
    while (askedOf(TWO) < 1) await turn()
    await turn()
    exchange.held.set(TWO, second)
    while (askedOf(TWO) < 2) await turn()
    exchange.held.delete(ONE)
    advance(nodes, 11)
    while (second.length === 0) await turn()
    for (const answer of [...first, ...second]) answer()
    expect(checked(await reading)).toBe('3/5 @11')
    expect([me.runs, askedOf(ONE), askedOf(TWO)]).toEqual([2, 2, 2])
  })

  test('an error that follows from state is checked like a result, and refused where others have one', async () => {
    const missing = new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: '0xfff' })
    const [me, one, two] = [node(ME, {}, { value: missing }), node(ONE, {}, { value: missing }), node(TWO, {}, { value: missing })]
    const reply = await me.read()
    expect([reply.status, checked(reply)]).toEqual([404, '2/3 @5'])
    one.state.value = two.state.value = 'right'
    await expect(me.read()).rejects.toMatchObject({ code: 'CMESH_CONSENSUS_OUTVOTED' })
  })

  test('a node that the quorum contradicts gives nothing, and says who had what', async () => {
    const [me] = [node(ME, {}, { value: 'wrong' }), node(ONE), node(TWO, {}, { head: 6 })]
    await expect(me.read({ id: Buffer.alloc(16, 9) })).rejects.toMatchObject({
      code: 'CMESH_CONSENSUS_OUTVOTED', status: 503,
      message: 'This node does not give its result of 0xS:0x001:f: at sequence 5 2 of 3 members have another one. Ask another node, and check this one.',
    })
    const [event] = me.events as [{ results: { member: string, from: number, to: number, hash: string }[] }]
    expect(me.events).toEqual([{
      kind: 'consensus.reads', node: ME.did, message: '09'.repeat(16), fqmn: '0xS:0x001:f', seq: 5, verdict: 'outvoted', quorum: 2, members: 3, omitted: 0,
      results: [
        { member: ME.did, from: 3, to: 5, hash: expect.stringMatching(/^[0-9a-f]{64}$/) },
        expect.objectContaining({ member: ONE.did, from: 3, to: 5 }), expect.objectContaining({ member: TWO.did, from: 3, to: 6 }),
      ],
    }])
    expect(new Set(event.results.map(({ hash }) => hash)).size).toBe(2)
    expect(me.log.lines.filter(({ level }) => level === 'error').map(({ message }) => message)).toEqual(['members gave different results of one read'])
    expect(me.checks.stats).toMatchObject({ outvoted: 1, mismatches: 1, agreed: 0 })
  })

  test('one wrong member of three is outvoted by the other two, and named', async () => {
    const [me] = [node(ME), node(ONE, {}, { value: 'wrong' }), node(TWO)]
    const replies = [await me.read(), await me.read()]
    expect(replies.map(checked)).toEqual(['2/3 @5', '2/3 @5'])
    expect(me.events).toMatchObject([{ verdict: 'agreed', results: [{ member: ME.did }, { member: ONE.did }, { member: TWO.did }] }])
  })

  test('with too few members there it is refused at once', async () => {
    const me = node(ME)
    await expect(me.read()).rejects.toMatchObject({
      code: 'CMESH_CONSENSUS_UNCHECKED', status: 503, retry: 'retry',
      message: 'The result of 0xS:0x001:f could not be checked: 1 of 3 members gave it in time, this node included, and 2 have to. Try again once more of them are there.',
    })
    expect([askedOf(ONE), askedOf(TWO), me.checks.stats.open]).toEqual([1, 1, 1])
  })

  test('a member alone is its own quorum, and a node that is none has no say', async () => {
    expect(checked(await node(ME, { members: () => [ME.did] }).read())).toBe('1/1 @5')
    await expect(node(FOUR).read()).rejects.toMatchObject({ code: 'CMESH_STATE_NOT_MEMBER' })
  })

  test('past so many of one caller it is refused, and the next one is not once those are answered', async () => {
    scripted(ONE, () => undefined)
    scripted(TWO, () => undefined)
    const me = node(ME)
    const waiting = Array.from({ length: 256 }, () => me.read({ deadlineMs: iam.clock.ms + 300 }))
    await expect(me.read()).rejects.toMatchObject({ code: 'CMESH_ROUTER_BUSY', status: 429, message: 'the check of reads has 256 requests in flight already; try again in 100 ms.' })
    expect((await Promise.allSettled(waiting)).map(({ status }) => status)).not.toContain('fulfilled')
    node(ONE)
    expect(checked(await me.read())).toBe('2/3 @5')
    expect(me.checks.stats.busy).toBe(1)
  })

  test('is over before its caller gives up, who hears what it came to', async () => {
    scripted(ONE, () => undefined)
    scripted(TWO, () => undefined)
    const soon = jest.spyOn(exchange, 'request')
    await expect(node(ME).read({ deadlineMs: iam.clock.ms + 300 })).rejects.toMatchObject({ code: 'CMESH_CONSENSUS_UNCHECKED' })
    expect(soon.mock.calls.map(([, , options]) => options?.timeoutMs)).toEqual([250, 250])
    // With less than that there is time for no answer.
    await expect(node(ME).read({ deadlineMs: iam.clock.ms + 10 })).rejects.toMatchObject({ code: 'CMESH_CONSENSUS_UNCHECKED' })
    expect(soon.mock.calls.slice(2).map(([, , options]) => options?.timeoutMs)).toEqual([1, 1])
  })

  test('a read that is too large to ask others for is refused, and asks nobody', async () => {
    await expect(node(ME).read({ body: Buffer.alloc(QUESTION_BYTES) })).rejects.toMatchObject({ code: 'CMESH_FRAME_TOO_LARGE', status: 413 })
    expect(exchange.asked).toEqual([])
  })

  test.each(['0xS:0x000:proof:["0x001","00"]', '0xS:0x000:at:["0x001","00",1]', '0xS:0x000:later'])('%s is nobody else\'s to answer: it goes unchecked', async fqmn => {
    const reply = await node(ME).checks.read(testCall(fqmn), auth, { gas: 0n, before: undefined, after: undefined })
    expect(checked(reply)).toBeUndefined()
    expect(exchange.asked).toEqual([])
  })

  test('what no session asks for goes unchecked', async () => {
    const call = testCall('0xS:0x001:f')
    const contract = iam.guard.contractPrincipal('0x002', 'm', call.route)
    expect(checked(await node(ME).checks.read(call, contract, { gas: 0n, before: undefined, after: undefined }))).toBeUndefined()
    expect(exchange.asked).toEqual([])
  })

  test('a stop ends what is under way and answers nobody any more', async () => {
    scripted(ONE, () => undefined)
    scripted(TWO, () => undefined)
    const me = node(ME)
    const reading = me.read()
    await turn()
    await Promise.all([me.checks.stop(), expect(reading).rejects.toMatchObject({ code: 'CMESH_CONSENSUS_UNCHECKED' })])
    await expect(exchange.request(checkSubject(ME.did), Buffer.alloc(0))).rejects.toMatchObject({ code: 'CMESH_BUS_NO_RESPONDERS' })
  })
})

describe('a hostile member', () => {
  /** What `ONE` does to a question; `TWO` is honest. */
  const HASH = '00'.repeat(32)
  const signed = (key: KeyPair, question: Uint8Array, from: number, to: number): Uint8Array =>
    encodeAnswer({ from, to, hash: HASH }, question, bytes => key.sign(bytes))
  let kept: Uint8Array | undefined
  beforeEach(() => { kept = undefined })

  test.each<[string, number, (question: Uint8Array) => Uint8Array | undefined]>([
    ['that gives a wrong hash is named, and', 1, question => signed(ONE, question, 0, 2 ** 53 - 1)],
    ['that says it is far ahead', 0, question => signed(ONE, question, 2 ** 52, 2 ** 53 - 1)],
    ['that answers with another member\'s signature', 0, question => signed(TWO, question, 0, 9)],
    ['that answers as one who is no member', 0, question => signed(THREE, question, 0, 9)],
    ['that gives the answer of another question again', 0, question => kept ??= signed(ONE, encodeQuestion({ ...decodeQuestion(question), nonce: Buffer.alloc(16) }), 0, 9)],
    ['that sends garbage', 0, () => Buffer.from('garbage')],
    ['that sends nothing', 0, () => Buffer.alloc(0)],
    ['that sends far too much', 0, () => Buffer.alloc(900_000, 0x41)],
    ['that refuses', 0, () => Buffer.concat([Buffer.of(0x41, 1, 2, 4), Buffer.from('busy')])],
    ['that is silent', 0, () => undefined],
  ])('%s keeps nobody from the answer', async (_, mismatches, answer) => {
    exchange.patient = true
    const [me, two] = [node(ME), node(TWO)]
    scripted(ONE, answer)
    expect([checked(await me.read()), checked(await me.read())]).toEqual(['2/3 @5', '2/3 @5'])
    expect(two.runs).toBe(2)
    expect(me.events.length).toBe(mismatches)
    await me.checks.stop()
  })

  test('that says it is far ahead leads nobody there: two that are apart meet behind one block, of a view that is another at each', async () => {
    const [me, two] = [node(ME, {}, { head: 5, from: 5, value: 'at 5' }), node(TWO, {}, { head: 9, from: 9, value: 'at 9' })]
    scripted(ONE, question => signed(ONE, question, 2 ** 52, 2 ** 53 - 1))
    const reading = me.read()
    while (two.runs === 0) await turn()
    await turn()
    for (let seq = 6; seq <= 11; seq++) me.block(`at ${seq}`)
    for (let seq = 10; seq <= 11; seq++) two.block(`at ${seq}`)
    const reply = await reading
    expect([valueOf(reply), checked(reply), me.events]).toEqual(['at 11', '2/3 @11', []])
    await me.checks.stop()
  })

  test('that failed is asked last for a while', async () => {
    const [me] = [node(ME), node(TWO)]
    scripted(ONE, () => Buffer.alloc(0))
    for (let i = 0; i < 6; i++) await me.read()
    expect([askedOf(ONE), askedOf(TWO)]).toEqual([1, 6])
    iam.clock.ms += 5_001
    for (let i = 0; i < 2; i++) await me.read()
    expect([askedOf(ONE), askedOf(TWO)]).toEqual([2, 8])
  })

  test('cannot make a quorum by itself, whatever it signs: two of five wrong ones change nothing', async () => {
    const members = (): string[] => KEYS.map(({ did }) => did)
    const [me] = [node(ME, { members }), node(THREE, { members }), node(FOUR, { members })]
    for (const key of [ONE, TWO]) scripted(key, question => signed(key, question, 0, 9))
    expect(checked(await me.read())).toBe('3/5 @5')
  })
})

describe('a member that is asked', () => {
  const ask = async (fields: Partial<Parameters<typeof encodeQuestion>[0]> = {}): Promise<string> => {
    const question = encodeQuestion({
      nonce: Buffer.alloc(16, 1), deadlineMs: iam.clock.ms + 60_000, at: 5, wish: 5, patienceMs: 0, gasLimit: GAS,
      sid: session.sid, token: Buffer.from(session.token), fqmn: '0xS:0x001:f', body: Buffer.alloc(0), ...fields,
    })
    const answer = Buffer.from(await exchange.request(checkSubject(ONE.did), question, { timeoutMs: 5_000 }))
    return answer[2] === 1 ? 'result' : answer.subarray(4).toString()
  }

  test.each<[string, Partial<Parameters<typeof encodeQuestion>[0]>, string]>([
    ['a caller without a token', { token: Buffer.alloc(0) }, 'CMESH_IAM_NO_SESSION'],
    ['a token of another session', { sid: 'another' }, 'CMESH_IAM_NO_SESSION'],
    ['an address that changes state', { fqmn: '0xSW:0x001:f' }, 'CMESH_ROUTER_INTERNAL_ONLY'],
    ['an address of another service', { fqmn: '0xC:status' }, 'CMESH_ROUTER_INTERNAL_ONLY'],
    ['an address that is none', { fqmn: 'x' }, 'CMESH_FQMN_OPCODE'],
    ['more gas than it lets a view use', { gasLimit: GAS + 1 }, 'CMESH_CONTRACT_OUT_OF_GAS'],
    ['an answer when it is too late', { deadlineMs: 1 }, 'CMESH_ROUTER_DEADLINE'],
  ])('for %s runs nothing', async (_, fields, reason) => {
    const one = node(ONE)
    expect(await ask()).toBe('result')
    expect(await ask(fields)).toBe(reason)
    expect([one.runs, one.checks.stats.refused]).toEqual([1, 1])
  })

  test('asks its own guard whether the caller may read it, and who is revoked may not', async () => {
    const poor = await iam.open()
    const one = node(ONE)
    const fields = { sid: poor.sid, token: Buffer.from(poor.token) }
    expect(await ask(fields)).toBe('result')
    // While it waits for a block it may lose that right.
    const waiting = ask({ ...fields, at: 6, wish: 6 })
    await turn()
    await turn()
    iam.grants.set((await iam.enter(poor)).sub, [])
    iam.guard.grantsChanged()
    expect(await ask(fields)).toBe('CMESH_IAM_DENIED')
    iam.guard.revoke({ sid: poor.sid })
    expect(await ask(fields)).toBe('CMESH_IAM_NO_SESSION')
    one.block()
    expect(await waiting).toBe('CMESH_IAM_NO_SESSION')
    expect(one.runs).toBe(1)
  })

  test('answers one whose clock is as far from its own as those of members may be', async () => {
    const me = node(ME)
    for (const aheadMs of [-5_000, 5_000]) {
      node(ONE, { clock: testClock({ ms: iam.clock.ms + aheadMs }) })
      expect(checked(await me.read({ deadlineMs: iam.clock.ms + 1_000 }))).toBe('2/3 @5')
    }
    expect(await ask({ deadlineMs: iam.clock.ms - 1 })).toBe('CMESH_ROUTER_DEADLINE')
  })

  test('tells of no fault of its own but the code', async () => {
    const one = node(ONE, { run: () => { throw new Error('secret') } })
    expect(await ask()).toBe('CMESH_INTERNAL')
    expect(one.log.lines).toMatchObject([{ level: 'error', message: 'a read that another member checks could not be run' }])
  })

  test('answers under every mode, and nobody who does not say where', async () => {
    const one = node(ONE, { mode: 'none' })
    expect(await ask()).toBe('result')
    exchange.asked.length = 0
    expect(checked(await one.read())).toBeUndefined()
    expect(exchange.asked).toEqual([])
  })

  test('works on so many at once and refuses the others in a word', async () => {
    const one = node(ONE)
    const waiting = Array.from({ length: 2_048 }, () => ask({ at: 6, wish: 6 }))
    expect(await ask()).toBe('CMESH_ROUTER_BUSY')
    one.block()
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(['result']))
    expect(await ask()).toBe('result')
  })
})

describe('under sample', () => {
  const settled = async (me: Node): Promise<void> => { while (me.checks.stats.agreed + me.checks.stats.outvoted + me.checks.stats.open === 0) await turn() }

  test('one read in so many is checked, behind its reply', async () => {
    const draws = [0.5, 0.24, 0.9, 0.25]
    const [me] = [node(ME, { mode: 'sample', oneIn: 4, random: () => draws.shift() ?? 1 }), node(ONE), node(TWO)]
    const replies = [await me.read(), await me.read(), await me.read(), await me.read()]
    expect(replies.map(checked)).toEqual([undefined, undefined, undefined, undefined])
    await settled(me)
    expect(exchange.asked.length).toBe(1)
    expect(me.checks.stats.agreed).toBe(1)
    expect(me.checks.mode).toEqual({ mode: 'sample', oneIn: 4 })
  })

  test('a node that is contradicted gives its reply, and tells', async () => {
    const [me] = [node(ME, { mode: 'sample', random: () => 0 }, { value: 'wrong' }), node(ONE), node(TWO)]
    expect(valueOf(await me.read())).toBe('wrong')
    await settled(me)
    expect(me.events).toMatchObject([{ verdict: 'outvoted', fqmn: '0xS:0x001:f' }])
  })

  test('asks for what was asked, also when the frame that it came in is gone', async () => {
    const run: ReadChecksParts['run'] = ({ body }, _auth, _notes, exact) => {
      if (exact !== undefined) Object.assign(exact, { from: 5, to: 5 })
      return jsonReply(Buffer.from(body).toString('utf8'))
    }
    const [me] = [node(ME, { mode: 'sample', random: () => 0, run }), node(ONE, { run }), node(TWO, { run })]
    const body = Buffer.from('["x"]')
    expect(valueOf(await me.read({ body }))).toBe('["x"]')
    body.fill(0)
    await settled(me)
    expect(me.checks.stats).toMatchObject({ agreed: 1, mismatches: 0 })
  })

  test('what finds no room is answered, and is no sample', async () => {
    scripted(ONE, () => undefined)
    scripted(TWO, () => undefined)
    const me = node(ME, { mode: 'sample', random: () => 0 })
    const replies = await Promise.all(Array.from({ length: 65 }, () => me.read()))
    expect(replies.map(valueOf)).toEqual(replies.map(() => 'right'))
    while (exchange.asked.length < 64) await turn()
    await me.checks.stop()
    expect([me.checks.stats.busy, exchange.asked.length]).toEqual([1, 64])
  })
})

test('of many mismatches some are told, few of one address, and how many were not; and others ten seconds later', async () => {
  const [me] = [node(ME), node(ONE, {}, { value: 'wrong' }), node(TWO)]
  const errors = (): unknown[] => me.log.lines.filter(({ level }) => level === 'error')
  const { ms } = iam.clock
  try {
    for (let i = 0; i < 20; i++) await me.read()
    expect([me.checks.stats.mismatches, me.events.length, errors().length]).toEqual([10, 8, 8])
    await Promise.all(Array.from({ length: 140 }, (_, i) => me.read({ route: parseFqmn(`0xS:0x001:f${i}`) })))
    expect([me.checks.stats.mismatches, me.events.length, errors().length]).toEqual([80, 64, 64])
    expect(me.events[8]?.omitted).toBe(2)
    iam.clock.ms += 10_000
    await me.read()
    await me.read()
    expect(me.events.map(({ omitted }) => omitted)).toEqual([...Array<number>(8).fill(0), 2, ...Array<number>(55).fill(0), 14])
  } finally {
    iam.clock.ms = ms
  }
})

test('what could not be told is counted', async () => {
  const [, , failing] = [node(ONE, {}, { value: 'wrong' }), node(TWO), node(FOUR, { members: () => [FOUR.did, ONE.did, TWO.did], audit: data => {
    failing.events.push(JSON.parse(Buffer.from(data).toString('utf8')) as Record<string, unknown>)
    return Promise.reject(new CMeshError('CMESH_BUS_CLOSED'))
  } })]
  for (let i = 0; i < 4; i++) await failing.read()
  expect(failing.events.map(({ omitted }) => omitted)).toEqual([0, 1])
})
