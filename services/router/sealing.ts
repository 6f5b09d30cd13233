/**
 * How a request is closed: the router's layer is added, the last one, the final hash is made, and both go to the audit log. A reply at `full`
 * waits there for its root and takes the receipt along; any other leaves at once.
 *
 * Invariant: what is sealed is recorded before anything else is sealed, since the bytes that were hashed lie in the sealer's memory.
 */
import { randomBytes } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { EMPTY_HASH, encodeLayers, layerSite, placeOf, SALT_BYTES, sha256, siteAt, type Layer, type LayerSite } from '../../cmtp/layer.ts'
import { MESSAGE_ID_BYTES, putEntryId } from '../../cmtp/message-id.ts'
import type { Salts } from '../../cmtp/salts.ts'
import type { Preimages } from '../../cmtp/sealed.ts'
import { LayerSealer, type Binding } from '../../cmtp/sealer.ts'
import type { ReceiptLevel } from '../../cmtp/wire.ts'
import type { Batcher } from '../audit/batcher.ts'
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
  readonly receipts: Pick<ReceiptWriter, 'write'>
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
  /** The layers block; empty unless the level is `full`. */
  readonly layers: Buffer
  readonly hops: readonly Layer[]
  readonly trace: Trace | undefined
}

/** A read whose answer others of its batch get as well. */
export interface Repeatable {
  readonly passage: Passage
  readonly reply: Reply
  /** What the final hash of a repetition is made of, from the first one on, and whose id that one has; the id is written anew for each. */
  preimage: { readonly made: Preimages, readonly id: Buffer } | undefined
}

const EMPTY = Buffer.alloc(0)
const UNSEALED: SealedReply = { finalHash: '', layers: EMPTY, hops: [], trace: undefined }

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
    if (receipt !== 'full') return { finalHash: this.#sealer.seal(hops, this.#binding(passage, id, reply, passage?.salt)), layers: EMPTY, hops, trace }
    const encoded: Buffer[] = []
    const salt = passage?.saltOrFresh() ?? randomBytes(SALT_BYTES)
    return { finalHash: this.#sealer.seal(hops, this.#binding(passage, id, reply, salt), encoded), layers: encodeLayers(salt, encoded), hops, trace }
  }

  /** The final hash of the same answer under the id of another entry, which is recorded; nothing at `none` where nothing is recorded. */
  repeat(answered: Repeatable, batch: Uint8Array, index: number): string {
    const { passage, reply, preimage } = answered
    if (!this.seals(passage.receipt)) return ''
    putEntryId(this.#entryId, batch, index)
    if (preimage !== undefined) {
      const finalHash = this.#sealer.sealAs(preimage.made, batch, index)
      this.#parts.audit?.batcher.repeat(this.#entryId, finalHash, preimage.id)
      this.#traceRepeat(finalHash, passage)
      return finalHash
    }
    // Its layers have salts of their own: those after it repeat this one.
    const made = this.#sealer.preimage(passage.layers, this.#binding(passage, passage.id, reply, passage.salt))
    answered.preimage = { made, id: Buffer.from(this.#entryId) }
    const finalHash = this.#sealer.sealAs(made, batch, index)
    this.#parts.audit?.batcher.add(this.#entryId, finalHash, this.#sealer, passage.layers)
    this.#traceRepeat(finalHash, passage)
    return finalHash
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

  /** Records what was sealed last and calls back once it is on the log: with its receipt, or with why there will be none. At once where nothing is recorded. */
  recordFully(id: Uint8Array, { finalHash, hops, trace }: SealedReply, receipt: (bytes: Buffer | CMeshError) => void): void {
    const { audit, traces } = this.#parts
    if (trace !== undefined) traces?.add(id, finalHash, hops, trace)
    if (audit === undefined) {
      receipt(EMPTY)
      return
    }
    const record = this.#sealer.record()
    const texts = hops.map(({ site, grant }) => placeOf(site, grant).texts)
    audit.batcher.add(id, finalHash, this.#sealer, hops, undefined, rooted => {
      receipt(rooted instanceof CMeshError ? rooted : audit.receipts.write({ final: Buffer.from(finalHash, 'latin1'), record, texts, rooted }))
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
