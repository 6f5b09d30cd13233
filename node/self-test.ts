/**
 * What a node proves to itself before it opens its door: that requests go through the front door to every service and
 * come back as the design says, refusals included. It may run on a mesh of any age: a second boot finds the names taken
 * and the counter counted, and passes; of a contract that its owner replaced nothing is expected but that it is there.
 */
import { CMeshError, type ErrorCode } from '../cmtp/errors.ts'
import { encodeRequest, ReplyFrame } from '../cmtp/frame.ts'
import { signNameRecord } from '../cmtp/identity/name-record.ts'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import { MessageIds } from '../cmtp/message-id.ts'
import { inboxPrefix, requestSubject } from '../cmtp/subject.ts'
import type { Bus, BusSubscription } from '../services/bus/provider.ts'
import type { Log } from '../services/log.ts'
import type { FrontDoor } from '../services/router/front-door.ts'
import type { OwnSession } from './own-session.ts'

const NAME = 'self-test.mcom'
const TARGET = '0xS:0x001:hello_world'
/** How long the one request over the bus may take, in ms. */
const OVER_BUS_MS = 5_000
/** How long until it is asked again where others are not there yet, in ms. */
const AGAIN_MS = 200
/**
 * Failures that pass: members that have to check what is read, or to say what their clocks show, are not there yet; the broker is away, or elects
 * the leader of a stream; events of a log that was restored, or taken from others, are to get out first.
 */
const PASSING: ReadonlySet<unknown> = new Set<ErrorCode>([
  'CMESH_CONSENSUS_UNCHECKED', 'CMESH_ROUTER_UNKNOWN_OUTCOME', 'CMESH_ROUTER_TIMEOUT', 'CMESH_IAM_STALE',
  'CMESH_BUS_DISCONNECTED', 'CMESH_BUS_NO_RESPONDERS', 'CMESH_BUS_TIMEOUT', 'CMESH_BUS_STORE', 'CMESH_STATE_CLOCK', 'CMESH_ROUTER_BUSY',
])

export interface SelfTestParts {
  readonly frontDoor: Pick<FrontDoor, 'route'>
  readonly session: OwnSession
  readonly identity: KeyPair
  /** The connection in the sessions' account: one request goes the way of a client's. */
  readonly mesh: Pick<Bus, 'publish' | 'subscribe'>
  /** Resolves when the events of what was written so far are published. */
  readonly eventsOut: () => Promise<void>
  /** Blocks whose events are not out yet. */
  readonly eventsWaiting: () => number
  /** How long it is asked again where that passes, from the first such failure on, or from when events last got out, ms. */
  readonly patienceMs: number
  readonly log: Pick<Log, 'warn'>
}

interface Answer {
  readonly status: number
  readonly value: unknown
  readonly finalHash: Buffer
}

/** Rejects with `CMESH_BOOT_FAILED`, naming the part (`state`, `registrar`, `events`, `routes`) and what did not hold. */
export async function selfTest(parts: SelfTestParts): Promise<void> {
  const code = (expected: string) => (value: unknown): boolean => (value as { code?: string } | null)?.code === expected
  let patientUntil: number | undefined
  let leastWaiting = Infinity
  const ask = async (fqmn: string, body?: Uint8Array): Promise<Answer> => {
    const { frame, sid } = await parts.session.frame(fqmn, body)
    const answer = read(await parts.frontDoor.route(frame, sid))
    const failure = (answer.value as { code?: unknown } | null)?.code
    if (!PASSING.has(failure)) return answer
    if (patientUntil === undefined && leastWaiting === Infinity) parts.log.warn({ fqmn, code: failure, forMs: parts.patienceMs }, 'the self-test waits for the broker, or for the other members')
    const waiting = parts.eventsWaiting()
    if (waiting < leastWaiting) patientUntil = undefined
    leastWaiting = Math.min(leastWaiting, waiting)
    patientUntil ??= performance.now() + parts.patienceMs
    if (performance.now() > patientUntil) return answer
    await new Promise(resolve => { setTimeout(resolve, AGAIN_MS) })
    return ask(fqmn, body)
  }
  const expect = async (part: string, fqmn: string, status: number, check: (value: unknown) => boolean, body?: Uint8Array): Promise<Answer> => {
    const answer = await ask(fqmn, body)
    if (answer.status !== status) throw failed(part, `${fqmn} gave ${answer.status} and not ${status}: ${JSON.stringify(answer.value)}`)
    if (!check(answer.value)) throw failed(part, `${fqmn} gave ${JSON.stringify(answer.value)}`)
    if (answer.finalHash.length !== 32) throw failed(part, `${fqmn} came without its final hash`)
    return answer
  }

  const isAsBorn = async (contract: string): Promise<boolean> => {
    const { value } = await expect('state', `0xS:${contract}`, 200, record => typeof (record as { version?: unknown } | null)?.version === 'number')
    return (value as { readonly version: number }).version === 1
  }
  const [greets, counts] = [await isAsBorn('0x001'), await isAsBorn('0x002')]
  if (greets) {
    await expect('state', '0xS:0x001:hello_world', 200, value => value === 'Hello, world')
    await expect('state', '0xS:0x001:hello_world:["Dexter"]', 200, value => value === 'Hello, Dexter')
  }
  if (counts) {
    const counted = await expect('state', '0xSW:0x002:increment:[1]', 200, isCount)
    await expect('state', '0xS:0x002:get', 200, value => isCount(value) && BigInt(String(value)) >= BigInt(String(counted.value)))
  }
  await expect('state', '0xS:0xfff:anything', 404, code('CMESH_STATE_NO_CONTRACT'))
  await expect('state', '0xSW:0x000:deploy', 403, code('CMESH_IAM_DENIED'))
  const refused = read(await parts.frontDoor.route(unsigned(), 'nobody'))
  if (refused.status !== 401 || (refused.value as { prompt?: string }).prompt !== 'identity') throw failed('state', `a request without a session gave ${refused.status}`)

  const signature = signNameRecord({ name: NAME, target: TARGET, owner: parts.identity.did, sequence: 1 }, parts.identity)
  const registration = Buffer.from(JSON.stringify({ sequence: 1, signature }))
  const register = `0xRW:register:${NAME}:${TARGET}`
  const first = await ask(register, registration)
  if (first.status !== 200 && first.status !== 409) throw failed('registrar', `${register} gave ${first.status}: ${JSON.stringify(first.value)}`)
  await expect('registrar', register, 409, code('CMESH_REGISTRAR_TAKEN'), registration)
  if (greets) await expect('registrar', `0xR:${NAME}:["Dexter"]`, 200, value => value === 'Hello, Dexter')
  await expect('registrar', '0xR:unregistered.mcom', 404, code('CMESH_REGISTRAR_NOT_FOUND'))

  if (counts) {
    // Of what was counted above: what earlier starts published may be at another broker.
    await parts.eventsOut()
    await expect('events', '0xE:events.state.contracts.0x002.incremented:read', 200, value => typeof (value as { seq?: unknown }).seq === 'number')
  }

  await expect('routes', '0xZ:nothing', 400, code('CMESH_FQMN_OPCODE'))
  await expect('routes', '0xA:1:0x001:hello_world', 405, code('CMESH_ROUTER_INTERNAL_ONLY'))
  await expect('routes', '0xC:status', 200, value => typeof (value as { leader?: unknown }).leader === 'string')
  const { frame, sid } = await parts.session.frame('0xS:0x001')
  const overBus = read(await askOverBus(parts.mesh, sid, frame))
  if (overBus.status !== 200) throw failed('routes', `the way over the bus gave ${overBus.status}`)
}

/** From an inbox of the session's own: from any other, as the bus's own requests have, it would not be answered. */
async function askOverBus(mesh: SelfTestParts['mesh'], sid: string, frame: Uint8Array): Promise<Uint8Array> {
  const inbox = `${inboxPrefix(sid)}self`
  let subscription: BusSubscription | undefined
  let timer: NodeJS.Timeout | undefined
  try {
    return await new Promise<Uint8Array>((resolve, reject) => {
      subscription = mesh.subscribe(inbox, ({ data }) => { resolve(data) })
      timer = setTimeout(() => { reject(failed('routes', 'nothing came back over the bus')) }, OVER_BUS_MS)
      mesh.publish(requestSubject(sid), frame, inbox)
    })
  } finally {
    clearTimeout(timer)
    subscription?.unsubscribe()
  }
}

/** A request by somebody who never said who they are. */
function unsigned(): Buffer {
  return encodeRequest({
    id: new MessageIds().next(), fqmn: '0xS:0x001:hello_world', token: Buffer.alloc(0), deadlineMs: Date.now() + 5_000, receipt: 'hash',
  })
}

function read(bytes: Uint8Array): Answer {
  const frame = ReplyFrame.decode(bytes)
  return { status: frame.status, value: JSON.parse(frame.body.toString('utf8')), finalHash: frame.finalHash }
}

function isCount(value: unknown): boolean {
  return (typeof value === 'number' || typeof value === 'string') && /^\d+$/.test(String(value))
}

function failed(part: string, reason: string): CMeshError {
  return new CMeshError('CMESH_BOOT_FAILED', { step: `self-test of ${part}`, reason })
}
