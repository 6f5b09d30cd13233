/**
 * What a receipt leaves to run again: which of its hops touched state, and where in the log; of an event of a contract that was read, the transaction that
 * emitted it. The receipt is verified first: what does not hold says nothing of any log.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { decodeHeaders, headerValue } from '../../cmtp/headers.ts'
import type { DecodedLayer } from '../../cmtp/layer.ts'
import { decodeReceipt, type DecodedReceipt } from '../../cmtp/receipt/receipt.ts'
import { verifyReceipt } from '../../cmtp/receipt/verify.ts'
import { decodeWitness, type Witness } from '../../cmtp/receipt/witness.ts'
import type { Verify } from '../../cmtp/receipt/root.ts'
import { readEventJson } from '../events/event-json.ts'

const DENIAL = 'it was denied, and a denial is verified, not run again: cmesh receipt verify'
const NO_WITNESS = 'a read is made of its arguments, which only its witness has: keep FILE.witness beside the receipt, or name it by --witness'
/** What the guard answers, before state or, of keys that take a right of their own, behind it. */
const DENIED: ReadonlySet<number> = new Set([401, 403])

export interface Asked {
  /** 32 hex digits. */
  readonly id: string
  readonly receipt: DecodedReceipt
  /** `undefined`: kept back. */
  readonly layers: readonly (DecodedLayer | undefined)[]
  readonly witness: Witness | undefined
  /** The layer of the hop that touched state, or that told the event. */
  readonly hop: DecodedLayer
  readonly run: 'view' | 'transaction'
  /** The block that a view ran behind, or that holds the transaction. */
  readonly seq: number
  /** The transaction, 32 hex digits. */
  readonly tx: string
  /** The event that it emitted and that was told; `undefined` where the transaction is what was asked for. */
  readonly told: ToldEvent | undefined
}

export interface ToldEvent {
  readonly channel: string
  /** Which of its transaction's events it is. */
  readonly index: number
  readonly data: Uint8Array
}

/** Throws `CMESH_RECEIPT_FORMAT`, `CMESH_RECEIPT_INVALID`, and `CMESH_RECEIPT_NOT_REPLAYABLE` with why there is nothing to run. */
export function askedOf(data: Uint8Array, witnessed: Uint8Array | undefined, verify?: Verify): Asked {
  const { mesh } = decodeReceipt(data).record
  const verdict = verifyReceipt(data, mesh, { ...(witnessed !== undefined && { witness: witnessed }), ...(verify !== undefined && { verify }) })
  if (!verdict.valid) throw verdict.error
  const { receipt, layers } = verdict
  const witness = witnessed === undefined ? undefined : decodeWitness(witnessed)
  const hop = layers.find(layer => layer?.before !== undefined)
  const id = Buffer.from(receipt.id).toString('hex')
  const known = { id, receipt, layers, witness, tx: id, told: undefined }
  if (hop?.after !== undefined) return { ...known, hop, run: 'transaction', seq: hop.after.seq }
  if (hop !== undefined) {
    if (DENIED.has(hop.status)) throw notReplayable(DENIAL)
    if (witness === undefined) throw notReplayable(NO_WITNESS)
    return { ...known, hop, run: 'view', seq: hop.before?.seq ?? 0 }
  }
  const again = repeated(layers, witness)
  if (again !== undefined) return { ...known, ...again, run: 'transaction' }
  const read = layers.find(layer => layer?.hop === 'events' && layer.decision === 'allowed' && layer.status === 200 && !parseFqmn(layer.fqmn).write)
  if (read !== undefined) return { ...known, ...eventRead(read, witness), run: 'transaction' }
  throw notReplayable(whyNot(layers))
}

/** A write whose outcome was told again from what the log says: its layer has no position, its reply the block. */
function repeated(layers: Asked['layers'], witness: Witness | undefined): Pick<Asked, 'hop' | 'seq'> | undefined {
  const hop = layers.findLast(layer => layer?.decision === 'allowed')
  if (hop === undefined || witness === undefined) return undefined
  const seq = Number(headerValue(decodeHeaders(witness.replyHeaders), 'x-cmesh-sequence') ?? NaN)
  return Number.isSafeInteger(seq) && seq > 0 ? { hop, seq } : undefined
}

/** An event of a contract, by what the reply says of where it came from. */
function eventRead(hop: DecodedLayer, witness: Witness | undefined): Pick<Asked, 'hop' | 'seq' | 'tx' | 'told'> {
  const [channel = '', action = 'read'] = parseFqmn(hop.fqmn).segments
  if (action !== 'read') throw notReplayable(`only an event that was read by itself is traced to the transaction that emitted it, and this is ${action}`)
  if (witness === undefined) throw notReplayable(NO_WITNESS)
  const { data, origin } = readEventJson(witness.replyBody)
  if (data === undefined || origin === undefined) throw notReplayable('the event does not say which request it came from')
  const { request, block, index } = origin
  if (block === undefined || index === undefined) throw notReplayable(`the event was published by the request ${request}, whose receipt says by whom: cmesh receipt find ${request}`)
  return { hop, seq: block, tx: request, told: { channel, index, data } }
}

function whyNot(layers: Asked['layers']): string {
  if (layers.some(layer => layer !== undefined && (layer.decision === 'denied' || DENIED.has(layer.status)))) return DENIAL
  if (layers.some(layer => layer === undefined)) return 'the layer that says where it ran may be one of those kept back: use the receipt as it was given'
  const hop = layers.find(layer => layer?.hop !== 'router' && layer?.hop !== 'registrar')?.hop ?? layers[0]?.hop
  if (hop === 'peer') return 'another mesh answered it: replay it where that keeps its log'
  if (hop === 'state') return 'it was refused before it came to state, or was not over when it was answered: cmesh receipt verify says whether the receipt holds'
  return `the ${hop ?? 'router'} answered it, whose answer is not made of the state of the log: cmesh receipt verify says whether the receipt holds`
}

export function notReplayable(reason: string): CMeshError {
  return new CMeshError('CMESH_RECEIPT_NOT_REPLAYABLE', { reason })
}
