/**
 * Tells of reads to which members gave different results: an event on the channel `audit`, and a line of the log. An event names the address
 * without its arguments, and whose result had which hash. So many are told in ten seconds, so many of them of one address, and no more: a node at
 * fault differs at every read. Those that are left out are counted, and the next one says how many they were.
 */
import { randomBytes } from 'node:crypto'
import { CMeshError } from '../../../cmtp/errors.ts'
import type { Clock } from '../../clock.ts'
import type { Log } from '../../log.ts'
import type { Word } from './tally.ts'

const WINDOW_MS = 10_000
/** Told in so long, and of them those of one address. */
const MOST = 64
const MOST_OF_ONE = 8

export interface Mismatch {
  /** Id of the request. */
  readonly message: string
  /** Without arguments. */
  readonly fqmn: string
  /** Of this node's own result. */
  readonly seq: number
  /** `open`: no quorum had one result. */
  readonly verdict: 'agreed' | 'outvoted' | 'open'
  readonly quorum: number
  readonly members: number
  /** This node's first. */
  readonly words: readonly Word[]
}

export interface MismatchesParts {
  readonly node: string
  /** Publishes on the channel `audit`; an id is stored once. */
  readonly publish: (data: Uint8Array, id: string) => Promise<unknown>
  readonly clock: Pick<Clock, 'nowMs'>
  readonly log: Log
}

export class Mismatches {
  readonly #parts: MismatchesParts
  readonly #publishing = new Set<Promise<void>>()
  #omitted = 0
  #beganMs = 0
  #told = 0
  /** By address. */
  readonly #toldOf = new Map<string, number>()

  constructor(parts: MismatchesParts) {
    this.#parts = parts
  }

  tell({ words, ...mismatch }: Mismatch): void {
    const { node, publish, log } = this.#parts
    if (!this.#mayTell(mismatch.fqmn)) {
      this.#omitted++
      return
    }
    const results = words.map(({ did, from, to, hash }) => ({ member: did, from, to, hash }))
    // Not the request's, which its caller chose: under one id events are stored once.
    const id = `reads.${randomBytes(12).toString('hex')}`
    const event = { kind: 'consensus.reads', node, ...mismatch, results, omitted: this.#omitted }
    this.#omitted = 0
    log.error({ ...mismatch, results }, 'members gave different results of one read')
    const publishing = publish(Buffer.from(JSON.stringify(event)), id).then(() => undefined, (error: unknown) => {
      const { code } = CMeshError.from(error, 'events')
      this.#omitted++
      log.error({ err: error, code, message: mismatch.message }, 'that members gave different results could not be published')
    }).finally(() => { this.#publishing.delete(publishing) })
    this.#publishing.add(publishing)
  }

  #mayTell(fqmn: string): boolean {
    const nowMs = this.#parts.clock.nowMs()
    // A clock that was set back begins anew as well.
    if (Math.abs(nowMs - this.#beganMs) >= WINDOW_MS) {
      this.#beganMs = nowMs
      this.#told = 0
      this.#toldOf.clear()
    }
    const ofOne = this.#toldOf.get(fqmn) ?? 0
    if (this.#told >= MOST || ofOne >= MOST_OF_ONE || this.#publishing.size >= MOST) return false
    this.#told++
    this.#toldOf.set(fqmn, ofOne + 1)
    return true
  }

  /** Resolves when what was told is out, or is not going to be. */
  async flush(): Promise<void> {
    await Promise.all(this.#publishing)
  }
}
