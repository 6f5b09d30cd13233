/**
 * How a request is closed: the router's layer is added, the last one, the final hash is made, and both go to the audit log. A reply at `full`
 * waits there for its root and takes the receipt along; any other leaves at once.
 *
 * Invariant: what is sealed is recorded before anything else is sealed, since the bytes that were hashed lie in the sealer's memory.
 */
import type { WrittenPart } from '../../cmtp/batch.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { EMPTY_HASH, layerSite, placeOf, sha256, siteAt, type Layer, type LayerSite } from '../../cmtp/layer.ts'
import { MESSAGE_ID_BYTES, putEntryId } from '../../cmtp/message-id.ts'
import { layersBlock, partHead, type PartHead } from '../../cmtp/receipt/full-part.ts'
import type { Evidence } from '../../cmtp/receipt/receipt.ts'
import type { Salts } from '../../cmtp/salts.ts'
import type { Preimages } from '../../cmtp/sealed.ts'
import { LayerSealer, type Binding } from '../../cmtp/sealer.ts'
import type { ReceiptLevel } from '../../cmtp/wire.ts'
import type { Batcher, Rooted } from '../audit/batcher.ts'
import type { ReceiptWriter } from '../audit/receipts.ts'
import { NO_BODY, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import { hashArguments } from '../endpoint.ts'
import type { Trace } from '../traces/trace.ts'
import type { Tracer } from '../traces/tracer.ts'
import type { Passage } from './passage.ts'

/** Where requests are recorded, and what writes a receipt of one that is. */
export interface Audit {
  readonly batcher: Pick<Batcher, 'refusal' | 'add' | 'repeat'>
  readonly receipts: Pick<ReceiptWriter, 'part' | 'evidence' | 'evidenceBytes'>
}

/** Where a request's layers are handed on as spans. */
export type Traces = Pick<Tracer, 'begin' | 'add'>

export interface SealingParts {
  readonly node: string
  readonly clock: Clock
  readonly salts: Pick<Salts, 'put'>
  readonly audit: Audit | undefined
  readonly traces: Traces | undefined
}

/** A request that is closed. */
export interface SealedReply {
  /** 32 latin1 characters. */
  readonly finalHash: string
  /** The layers part but for its end, at `full`. */
  readonly head: PartHead | undefined
  readonly hops: readonly Layer[]
  readonly trace: Trace | undefined
}

/** What a reply at `full` carries as its layers part, or why it carries none. */
export type FullLayers = Uint8Array | WrittenPart | CMeshError

/** A read whose answer others of its batch get as well. */
export interface Repeatable {
  readonly passage: Passage
  readonly reply: Reply
  /** What the final hash of a repetition is made of, from the first one on, and whose id that one has; the id is written anew for each. */
  preimage: { readonly made: Preimages, readonly id: Buffer, readonly head: PartHead | undefined } | undefined
}

const EMPTY = Buffer.alloc(0)
const UNSEALED: SealedReply = { finalHash: '', head: undefined, hops: [], trace: undefined }

export class Sealing {
  readonly #parts: SealingParts
  readonly #sealer: LayerSealer
  readonly #unread: LayerSite
  readonly #entryId = Buffer.alloc(MESSAGE_ID_BYTES)

  constructor(parts: SealingParts) {
    this.#parts = parts
    this.#sealer = new LayerSealer(parts.salts)
    this.#unread = layerSite('router', parts.node, '')
  }

  /** Why nothing may be begun just now, for want of a place to record it. */
  get refusal(): CMeshError | undefined {
    return this.#parts.audit?.batcher.refusal
  }

  /** The most that the receipt of a write takes beside what any takes, in bytes. */
  get evidenceBytes(): number {
    return this.#parts.audit?.receipts.evidenceBytes ?? 0
  }

  /** Whether a reply of this level has layers: every one has that is recorded. */
  seals(receipt: ReceiptLevel): boolean {
    return receipt !== 'none' || this.#parts.audit !== undefined
  }

  /** Adds the router's layer, the last one, and makes the final hash. The layer ends where the last hop did. */
  seal(passage: Passage | undefined, id: Uint8Array, receipt: ReceiptLevel, reply: Reply, startUs: number): SealedReply {
    if (!this.seals(receipt)) return UNSEALED
    const endUs = passage === undefined || passage.markUs === startUs ? this.#parts.clock.nowUs() : passage.markUs
    const hops = passage?.layers ?? []
    hops.push({
      site: passage === undefined ? this.#unread : this.site('router', passage.asked, passage.route),
      decision: 'none', grant: '', status: reply.status, startUs, durationUs: endUs - startUs, gas: 0n,
      before: undefined, after: undefined, argumentsHash: passage === undefined ? undefined : hashArguments(passage),
    })
    const trace = passage === undefined ? this.#parts.traces?.begin(id, EMPTY, startUs) : passage.trace
    const finalHash = this.#sealer.seal(hops, this.#binding(passage, id, reply, passage?.salt))
    return { finalHash, head: receipt === 'full' ? partHead(this.#sealer.last, textsOf(hops)) : undefined, hops, trace }
  }

  /** The final hash of the same answer under the id of another entry, which is recorded; nothing at `none` where nothing is recorded. */
  repeat(answered: Repeatable, batch: Uint8Array, index: number): string {
    if (!this.seals(answered.passage.receipt)) return ''
    const { finalHash, of } = this.#sealAgain(answered, batch, index)
    const { batcher } = this.#parts.audit ?? {}
    if (of === undefined) batcher?.add(this.#entryId, finalHash, this.#sealer, answered.passage.layers)
    else batcher?.repeat(this.#entryId, finalHash, of)
    this.#traceRepeat(finalHash, answered.passage)
    return finalHash
  }

  /** The same at `full`: calls back once it is on the log, with final hash and layers part. */
  repeatFully(answered: Repeatable, batch: Uint8Array, index: number, told: (finalHash: string, layers: FullLayers) => void): void {
    const { finalHash, of, head } = this.#sealAgain(answered, batch, index)
    const { audit } = this.#parts
    this.#traceRepeat(finalHash, answered.passage)
    if (audit === undefined) {
      told(finalHash, layersBlock(head as PartHead))
      return
    }
    const id = Buffer.from(this.#entryId)
    const settled = (rooted: Rooted | CMeshError): void => {
      told(finalHash, rooted instanceof CMeshError ? rooted : audit.receipts.part(head as PartHead, id, finalHash, rooted, undefined))
    }
    if (of === undefined) audit.batcher.add(id, finalHash, this.#sealer, answered.passage.layers, undefined, settled)
    else audit.batcher.repeat(id, finalHash, of, settled)
  }

  /** `of`: whose repetition it is; `undefined` for the first one, whose layers have salts of their own, which those after it repeat. */
  #sealAgain(answered: Repeatable, batch: Uint8Array, index: number): Pick<SealedReply, 'finalHash' | 'head'> & { readonly of: Buffer | undefined } {
    const { passage, reply, preimage } = answered
    putEntryId(this.#entryId, batch, index)
    if (preimage !== undefined) return { finalHash: this.#sealer.sealAs(preimage.made, batch, index), of: preimage.id, head: preimage.head }
    const made = this.#sealer.preimage(passage.layers, this.#binding(passage, passage.id, reply, passage.salt))
    const head = passage.receipt === 'full' ? partHead(made, textsOf(passage.layers)) : undefined
    answered.preimage = { made, id: Buffer.from(this.#entryId), head }
    return { finalHash: this.#sealer.sealAs(made, batch, index), of: undefined, head }
  }

  /** A repetition has no headers: its trace begins with it. */
  #traceRepeat(finalHash: string, { layers, startUs }: Passage): void {
    const trace = this.#parts.traces?.begin(this.#entryId, EMPTY, startUs)
    if (trace !== undefined) this.#parts.traces?.add(this.#entryId, finalHash, layers, trace)
  }

  /** Records what was sealed last. */
  record(id: Uint8Array, { finalHash, hops, trace }: SealedReply): void {
    if (trace !== undefined) this.#parts.traces?.add(id, finalHash, hops, trace)
    this.#parts.audit?.batcher.add(id, finalHash, this.#sealer, hops, this.#sealer.template)
  }

  /** Records what was sealed last at `full`, and calls back once it is on the log. At once where nothing is recorded. */
  recordFully(id: Uint8Array, { finalHash, head, hops, trace }: SealedReply, told: (layers: FullLayers) => void): void {
    const { audit, traces } = this.#parts
    if (trace !== undefined) traces?.add(id, finalHash, hops, trace)
    if (audit === undefined) {
      told(layersBlock(head as PartHead))
      return
    }
    // The members are asked while the root is on its way to the log.
    const gathering = hops.some(({ after }) => after !== undefined) ? audit.receipts.evidence(this.#sealer.record()) : undefined
    audit.batcher.add(id, finalHash, this.#sealer, hops, this.#sealer.template, rooted => {
      if (rooted instanceof CMeshError) return told(rooted)
      const say = (evidence: Evidence | undefined): void => { told(audit.receipts.part(head as PartHead, id, finalHash, rooted, evidence)) }
      if (gathering === undefined) say(undefined)
      else void gathering.then(say)
    })
  }

  /** The site of a hop of this router, by the address that was asked for; names may come to map elsewhere. */
  site(hop: 'router' | 'registrar', asked: Route, target: Route): LayerSite {
    return siteAt(asked, hop, this.#parts.node, asked === target ? undefined : target.bare)
  }

  #binding(passage: Passage | undefined, id: Uint8Array, reply: Reply, salt: Uint8Array | undefined): Binding {
    const body = passage?.body ?? NO_BODY
    const auth = passage?.auth
    return {
      id,
      status: reply.status,
      // The context's own text where there is one: it is the same for every request of a session.
      sid: auth?.sid ?? passage?.sid ?? '',
      sub: auth?.sub ?? '',
      caller: auth?.caller,
      requestBodyHash: body.length === 0 ? EMPTY_HASH : sha256(body),
      replyBodyHash: reply.bodyHash ?? (reply.body.length === 0 ? EMPTY_HASH : sha256(reply.body)),
      replyHeaders: reply.headers,
      salt,
    }
  }
}

/** What a layers part holds where there is no receipt. */
function textsOf(hops: readonly Layer[]): Buffer[] {
  return hops.map(({ site, grant }) => placeOf(site, grant).texts)
}
