/**
 * How a request is closed: the router's layer is added, the last one, the final hash is made, and both go to the audit log. A reply at `full`
 * waits there for its root and takes the receipt along; any other leaves at once.
 *
 * Invariant: what is sealed is recorded before anything else is sealed, since the bytes that were hashed lie in the sealer's memory.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { HASH_BYTES } from '../../cmtp/frame.ts'
import { EMPTY_HASH, layerSite, placeOf, sha256, siteAt, type Layer, type LayerSite } from '../../cmtp/layer.ts'
import { entryId } from '../../cmtp/message-id.ts'
import { layersPart, partHead } from '../../cmtp/receipt/full-part.ts'
import type { Evidence } from '../../cmtp/receipt/receipt.ts'
import { Repeated } from '../../cmtp/repeated.ts'
import type { Salts } from '../../cmtp/salts.ts'
import { LayerSealer, type Binding } from '../../cmtp/sealer.ts'
import type { ReceiptLevel } from '../../cmtp/wire.ts'
import type { Batcher } from '../audit/batcher.ts'
import type { ReceiptWriter } from '../audit/receipts.ts'
import { NO_BODY, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import { hashArguments } from '../endpoint.ts'
import type { Trace } from '../traces/trace.ts'
import type { Tracer } from '../traces/tracer.ts'
import type { Recorded } from './full-entries.ts'
import type { Passage } from './passage.ts'

/** Where requests are recorded, and what writes a receipt of one that is. */
export interface Audit {
  readonly batcher: Pick<Batcher, 'refusal' | 'filling' | 'pending' | 'add' | 'repeat' | 'wait'>
  readonly receipts: Pick<ReceiptWriter, 'part' | 'certificate' | 'evidence' | 'evidenceBytes'>
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
  /** Of the layers part, at `full`. */
  readonly head: Buffer | undefined
  readonly hops: readonly Layer[]
  readonly trace: Trace | undefined
}

/** What a reply at `full` carries as its layers part, or why it carries none. */
export type FullLayers = Buffer | CMeshError

/** A read whose answer others of its batch get as well. */
export interface Repeatable {
  readonly passage: Passage
  readonly reply: Reply
  /** What its final hash was made of: that of a repetition has another id. */
  readonly made: Buffer | undefined
}

/** Answers that were told again. */
export interface RepeatedReplies {
  /** 32 bytes each, one behind the other. */
  readonly finals: Buffer
  /** The first of them. */
  readonly recorded: Recorded | undefined
}

const EMPTY = Buffer.alloc(0)
const UNREPEATED: RepeatedReplies = { finals: EMPTY, recorded: undefined }
const UNSEALED: SealedReply = { finalHash: '', head: undefined, hops: [], trace: undefined }

export class Sealing {
  readonly #parts: SealingParts
  readonly #sealer: LayerSealer
  readonly #unread: LayerSite
  readonly #repeated = new Repeated()

  constructor(parts: SealingParts) {
    this.#parts = parts
    this.#sealer = new LayerSealer(parts.salts)
    this.#unread = layerSite('router', parts.node, '')
  }

  /** Where a batch at `full` waits for its roots. */
  get audit(): Audit | undefined {
    return this.#parts.audit
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

  /** What the final hash that was made last is of, for a repetition; `undefined` where none was. */
  kept(receipt: ReceiptLevel): Buffer | undefined {
    return this.seals(receipt) ? this.#sealer.kept() : undefined
  }

  /**
   * The final hashes of answers that are told again, to entries `first` and those behind it of a batch, and where the first of them is recorded; the others
   * follow on it. Nothing at `none` where nothing is recorded. The hashes are good until the next call.
   */
  repeat(batch: Uint8Array, first: number, told: readonly Repeatable[]): RepeatedReplies {
    if (told[0]?.made === undefined) return UNREPEATED
    const finals = this.#repeated.seal(batch, first, told.map(({ made }) => made as Buffer))
    this.#traceRepeated(batch, first, finals, told)
    const { batcher } = this.#parts.audit ?? {}
    return { finals, recorded: batcher && { batch: batcher.filling, index: batcher.repeat(batch, first, finals, told.map(({ passage }) => passage.id)) } }
  }

  /** A repetition has no headers: its trace begins with it. */
  #traceRepeated(batch: Uint8Array, first: number, finals: Buffer, told: readonly Repeatable[]): void {
    const { traces } = this.#parts
    if (traces === undefined) return
    for (const [i, { passage: { layers, startUs } }] of told.entries()) {
      const id = entryId(batch, first + i)
      const trace = traces.begin(id, EMPTY, startUs)
      if (trace !== undefined) traces.add(id, finals.toString('latin1', i * HASH_BYTES, (i + 1) * HASH_BYTES), layers, trace)
    }
  }

  /** Records what was sealed last, and gives where; `undefined` where nothing is recorded. */
  record(id: Uint8Array, { finalHash, hops, trace }: SealedReply): Recorded | undefined {
    const { audit, traces } = this.#parts
    if (trace !== undefined) traces?.add(id, finalHash, hops, trace)
    if (audit === undefined) return undefined
    const { batcher } = audit
    return { batch: batcher.filling, index: batcher.add(id, finalHash, this.#sealer, hops, this.#sealer.template) }
  }

  /** What members say of the write that was sealed last; `undefined` where it is none. They are asked while its root is on the way to the log. */
  evidence({ hops }: SealedReply): Promise<Evidence | undefined> | undefined {
    return hops.some(({ after }) => after !== undefined) ? this.#parts.audit?.receipts.evidence(this.#sealer.record()) : undefined
  }

  /** Records what was sealed last at `full`, and calls back with its layers part once it is on the log. At once where nothing is recorded. */
  recordFully(id: Uint8Array, sealed: SealedReply, told: (layers: FullLayers) => void): void {
    const { audit } = this.#parts
    const head = sealed.head as Buffer
    const evidence = this.evidence(sealed)
    const recorded = this.record(id, sealed)
    if (audit === undefined || recorded === undefined) {
      told(layersPart(head))
      return
    }
    audit.batcher.wait(rooted => {
      if (rooted instanceof CMeshError) return told(rooted)
      const say = (claimed: Evidence | undefined): void => { told(audit.receipts.part(head, id, sealed.finalHash, recorded.index, rooted, claimed)) }
      if (evidence === undefined) say(undefined)
      else void evidence.then(say)
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
