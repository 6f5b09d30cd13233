/**
 * Keeps nodes apart that must not share a bus: beside one that mock consensus serves a second would make an order of its own, and two
 * under one key would speak in each other's name. A node asks on one control subject whether somebody is there, takes up the subject when
 * nobody is, and asks again, since another may have done the same in between. Of two nodes that start at once at least one refuses; both may.
 *
 * Somebody whom the broker knows and who does not answer is a process that hangs, or one that is gone and whose connection the broker, or one
 * behind a route that is cut, has not given up yet: it may be this node's own former life. It is asked again until it answers, or is gone, or
 * the waiting is over; then it is refused like one that answers.
 */
import { randomBytes } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { controlSubject } from '../../cmtp/subject.ts'
import type { Bus, BusMessage, BusSubscription } from '../../services/bus/provider.ts'
import { brokerAway, type Patience } from '../bus/patience.ts'

/** Where the one node of mock consensus says that it is there, and where those do whose order a stream keeps. */
export const MOCK_NODE = controlSubject('consensus', 'mock')
export const STREAM_NODES = controlSubject('consensus', 'stream')

export interface SingleNodeParts {
  readonly bus: Pick<Bus, 'request' | 'subscribe' | 'publish'>
  readonly subject: string
  /** Told to others that ask. */
  readonly nodeId: string
  /** How long somebody who is there may take to answer, in ms. */
  readonly answerMs: number
  /** How long a node that starts at the same time may take, in ms; every start waits this long. */
  readonly settleMs: number
  /** Waits where `placePasses` says so. */
  readonly patience: Pick<Patience, 'with'>
  /** The error that names the other node. Default: `CMESH_CONSENSUS_SECOND_NODE`. */
  readonly refuse?: (node: string, options?: ErrorOptions) => CMeshError
}

const SILENT = 'one that does not answer'
/** What is waited for, in words. */
const PLACE = 'this node\'s place, which somebody holds who does not answer, or the broker'
const LONGEST_ID = 128

/** Whether it may be otherwise in a while that the place is not this node's. */
export function placePasses(failure: unknown): boolean {
  return brokerAway(failure) || (failure instanceof CMeshError && brokerAway(failure.cause))
}

/**
 * Resolves once this node alone holds the subject; it does until the subscription ends. Rejects with what `refuse` gives, or with the
 * bus's error, and holds nothing then.
 */
export function holdAlone(parts: SingleNodeParts): Promise<BusSubscription> {
  return parts.patience.with(PLACE, () => hold(parts))
}

async function hold(parts: SingleNodeParts): Promise<BusSubscription> {
  const { bus, subject, nodeId, answerMs, settleMs } = parts
  // Known by content, since on this subject a node hears its own question too.
  const question = randomBytes(16)
  const first = await ask(parts, question, answerMs)
  if (first !== 'nobody') throw taken(parts, first)
  const subscription = holdShared({ bus, subject, nodeId }, question)
  try {
    // Now that this node stands there too, silence is the good answer.
    const second = await ask(parts, question, settleMs)
    if (second !== 'nobody' && !(second instanceof CMeshError)) throw taken(parts, second)
    return subscription
  } catch (thrown) {
    subscription.unsubscribe()
    throw thrown
  }
}

/** Says on the subject that this node is there, beside any others, until the subscription ends. */
export function holdShared({ bus, subject, nodeId }: Pick<SingleNodeParts, 'bus' | 'subject' | 'nodeId'>, own?: Uint8Array): BusSubscription {
  return bus.subscribe(subject, (message: BusMessage) => {
    if (message.reply !== '' && (own === undefined || Buffer.compare(message.data, own) !== 0)) bus.publish(message.reply, Buffer.from(nodeId))
  })
}

/** Resolves when nobody holds the subject. Rejects as `holdAlone` does. */
export function checkNobody(parts: Omit<SingleNodeParts, 'settleMs'>): Promise<void> {
  return parts.patience.with(PLACE, async () => {
    const answer = await ask(parts, randomBytes(16), parts.answerMs)
    if (answer !== 'nobody') throw taken(parts, answer)
  })
}

/** Silence is the time-out. */
type Answer = 'nobody' | CMeshError | { readonly node: string }

async function ask({ bus, subject }: Pick<SingleNodeParts, 'bus' | 'subject'>, question: Uint8Array, timeoutMs: number): Promise<Answer> {
  try {
    return { node: printable(await bus.request(subject, question, { timeoutMs })) }
  } catch (thrown) {
    if (!(thrown instanceof CMeshError)) throw thrown
    if (thrown.code === 'CMESH_BUS_NO_RESPONDERS') return 'nobody'
    if (thrown.code === 'CMESH_BUS_TIMEOUT') return thrown
    throw thrown
  }
}

function taken({ refuse = secondNode }: Pick<SingleNodeParts, 'refuse'>, answer: CMeshError | { readonly node: string }): CMeshError {
  return answer instanceof CMeshError ? refuse(SILENT, { cause: answer }) : refuse(answer.node)
}

function secondNode(node: string, options?: ErrorOptions): CMeshError {
  return new CMeshError('CMESH_CONSENSUS_SECOND_NODE', { node }, options)
}

/** What another node says of itself, fit for a message. */
function printable(answer: Uint8Array): string {
  return Buffer.from(answer).toString('latin1', 0, LONGEST_ID).replace(/[^\x20-\x7e]/g, '?')
}
