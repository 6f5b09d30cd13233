/**
 * The reply to a batch at `full`: its entries are written as they are answered, and it leaves once all of their roots are on the log. What they
 * have in common is told once behind them: heads of entries that one execution answers, roots, with what the paths of all of their leaves need,
 * and what members say of the writes among them.
 */
import type { BatchReplyWriter } from '../../cmtp/batch-reply.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { HASH_BYTES } from '../../cmtp/frame.ts'
import { hashesBeside } from '../../cmtp/receipt/merkle-paths.ts'
import { evidenceBytes, flagsOf, type Evidence } from '../../cmtp/receipt/receipt.ts'
import { SHARED_PART_BYTES, SHARED_ROOT_BYTES, type SharedEvidence, type SharedRoot } from '../../cmtp/receipt/shared-part.ts'
import type { Batcher, Rooted } from '../audit/batcher.ts'
import type { ReceiptWriter } from '../audit/receipts.ts'
import type { Reply } from '../call.ts'

/** Where a request was recorded. */
export interface Recorded {
  /** Number of its batch: the one that is being filled. */
  readonly batch: number
  readonly index: number
}

interface Audit {
  readonly batcher: Pick<Batcher, 'filling' | 'pending' | 'wait'>
  readonly receipts: Pick<ReceiptWriter, 'certificate'>
}

/** A batch of the log. */
interface Under {
  /** Which of the reply's roots it is, once an entry under it has layers. */
  nth: number | undefined
  rooted: Rooted | undefined
  /** Of leaves that have a receipt, rising. */
  readonly indexes: number[]
}

const NOTHING = Buffer.alloc(0)
/** What the paths of leaves that stand one behind the other need at most: the hashes beside either end, in a tree of 131,072 leaves. */
const RUN_BYTES = 2 * 17 * HASH_BYTES

export class FullEntries {
  /** What they take, reckoned high. */
  bytes: number
  readonly #writer: BatchReplyWriter
  readonly #audit: Audit | undefined
  readonly #answer: (frame: Buffer | CMeshError) => void
  readonly #heads: Buffer[] = []
  readonly #unders = new Map<number, Under>()
  readonly #told: Under[] = []
  readonly #evidence: SharedEvidence[] = []
  #entries = 0
  /** Entries, roots and evidence that are still to come. */
  #left: number
  #failure: CMeshError | undefined

  /** `answer` is told the frame, or why its requests could not be recorded. `audit`: none where nothing is. */
  constructor(writer: BatchReplyWriter, count: number, audit: Audit | undefined, answer: (frame: Buffer | CMeshError) => void) {
    this.#writer = writer
    this.#audit = audit
    this.#answer = answer
    this.#left = count
    this.bytes = writer.length + SHARED_PART_BYTES
  }

  /** What an entry with layers takes of the shared part that is recorded now, its head left out; reckoned high. */
  get sharedBytes(): number {
    if (this.#audit === undefined) return 0
    const { filling, pending } = this.#audit.batcher
    const last = this.#unders.get(filling)?.indexes.at(-1)
    if (last === undefined) return SHARED_ROOT_BYTES + RUN_BYTES
    return last + 1 === pending ? 0 : RUN_BYTES
  }

  /** The next entry, which was just recorded, or, where nothing is, only sealed. `head`: of its layers part; without one it tells of no layers. */
  add(reply: Reply, finalHash: string, head: Buffer | undefined, recorded: Recorded | undefined, evidence?: Promise<Evidence | undefined>): void {
    const { status, headers, body } = reply
    const entry = this.#entries++
    const under = recorded && this.#underOf(recorded.batch)
    const index = recorded?.index ?? 0
    if (head !== undefined && under !== undefined) {
      under.nth ??= this.#told.push(under) - 1
      under.indexes.push(index)
    }
    this.#writer.add(status, finalHash, headers, head && { head: this.#heads.push(head) - 1, root: under?.nth, index }, body)
    if (evidence !== undefined && head !== undefined) {
      this.#left++
      void evidence.then(told => {
        if (told !== undefined) this.#evidence.push({ entry, flags: flagsOf({ certificate: undefined, evidence: told }), bytes: evidenceBytes(told) })
        this.#done()
      })
    }
    this.#done()
  }

  /** The next entry, which is answered as entry `of`, recorded in the same batch. `finals`: its final hash from `at` on. */
  repeat(of: number, finals: Uint8Array, at: number, recorded: Recorded | undefined): void {
    this.#entries++
    if (recorded !== undefined) this.#underOf(recorded.batch).indexes.push(recorded.index)
    this.#writer.repeat(of, finals, at, recorded?.index)
    this.#done()
  }

  #underOf(batch: number): Under {
    const known = this.#unders.get(batch)
    if (known !== undefined) return known
    const under: Under = { nth: undefined, rooted: undefined, indexes: [] }
    this.#unders.set(batch, under)
    this.#left++
    this.#audit?.batcher.wait(rooted => {
      if (rooted instanceof CMeshError) this.#failure = rooted
      else under.rooted = rooted
      this.#done()
    })
    return under
  }

  #done(): void {
    if (--this.#left > 0) return
    if (this.#failure !== undefined) {
      this.#answer(this.#failure)
      return
    }
    const { certificate = NOTHING } = this.#audit?.receipts ?? {}
    const roots = this.#told.map(({ rooted, indexes }): SharedRoot => {
      const { record, tree } = rooted as Rooted
      return { record, certificate, besides: hashesBeside(tree, indexes) }
    })
    this.#answer(this.#writer.finish(roots, this.#heads, this.#evidence.sort((a, b) => a.entry - b.entry)))
  }
}
