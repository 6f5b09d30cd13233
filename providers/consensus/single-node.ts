/**
 * Keeps a second node off a bus that mock consensus serves: two of them would each make an order of their own. A node asks
 * on one control subject whether somebody is there, takes up the subject when nobody is, and asks again, since another may
 * have done the same in between. Of two nodes that start at once at least one refuses; both may.
 */
import { randomBytes } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Bus, BusMessage, BusSubscription } from '../../services/bus/provider.ts'

export interface SingleNodeParts {
  readonly bus: Pick<Bus, 'request' | 'subscribe' | 'publish'>
  readonly subject: string
  /** Told to others that ask. */
  readonly nodeId: string
  /** How long somebody who is there may take to answer, in ms. */
  readonly answerMs: number
  /** How long a node that starts at the same time may take, in ms; every start waits this long. */
  readonly settleMs: number
}

const SILENT = 'one that does not answer'
const LONGEST_ID = 128

/**
 * Resolves once this node alone holds the subject; it does until the subscription ends. Rejects with
 * `CMESH_CONSENSUS_SECOND_NODE`, or with the bus's error, and holds nothing then.
 */
export async function holdAlone(parts: SingleNodeParts): Promise<BusSubscription> {
  const { bus, subject, nodeId, answerMs, settleMs } = parts
  // Known by content, since on this subject a node hears its own question too.
  const question = randomBytes(16)
  const first = await ask(parts, question, answerMs)
  if (first !== 'nobody') throw taken(first)
  const subscription = bus.subscribe(subject, (message: BusMessage) => {
    if (message.reply !== '' && Buffer.compare(message.data, question) !== 0) bus.publish(message.reply, Buffer.from(nodeId))
  })
  try {
    // Now that this node stands there too, silence is the good answer.
    const second = await ask(parts, question, settleMs)
    if (second !== 'nobody' && second !== 'silence') throw taken(second)
    return subscription
  } catch (thrown) {
    subscription.unsubscribe()
    throw thrown
  }
}

type Answer = 'nobody' | 'silence' | { readonly node: string }

async function ask({ bus, subject }: SingleNodeParts, question: Uint8Array, timeoutMs: number): Promise<Answer> {
  try {
    return { node: printable(await bus.request(subject, question, { timeoutMs })) }
  } catch (thrown) {
    if (!(thrown instanceof CMeshError)) throw thrown
    if (thrown.code === 'CMESH_BUS_NO_RESPONDERS') return 'nobody'
    if (thrown.code === 'CMESH_BUS_TIMEOUT') return 'silence'
    throw thrown
  }
}

function taken(answer: Answer): CMeshError {
  return new CMeshError('CMESH_CONSENSUS_SECOND_NODE', { node: typeof answer === 'string' ? SILENT : answer.node })
}

/** What another node says of itself, fit for a message. */
function printable(answer: Uint8Array): string {
  return Buffer.from(answer).toString('latin1', 0, LONGEST_ID).replace(/[^\x20-\x7e]/g, '?')
}
