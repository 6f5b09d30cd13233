/**
 * One other replica, asked over the bus. It believes nothing but the form of an answer: whether blocks are the right ones is found by who
 * asked for them. Every failure is a `CMESH_STATE_CATCH_UP` or the bus's error.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import type { Bus } from '../../bus/provider.ts'
import { BLOCK_BYTES } from '../block.ts'
import { CHAIN_STEP } from '../provider.ts'
import { blocksSubject } from './server.ts'
import { ANSWER_BYTES, decodeAnswer, encodeQuestion, type Answer, type Question } from './wire.ts'

/** Chain values in one question: who is asked may have to read all blocks between them before it can answer. */
const CHAINS_AT_ONCE = 256

export interface AskOptions {
  /** How long one answer may take, in ms. Default 5,000. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export class Peer {
  readonly did: string
  readonly #bus: Pick<Bus, 'request'>
  readonly #options: AskOptions

  constructor(bus: Pick<Bus, 'request'>, did: string, options: AskOptions = {}) {
    this.#bus = bus
    this.did = did
    this.#options = options
  }

  /** The same replica, asked until `signal` says no more. */
  until(signal: AbortSignal): Peer {
    const outer = this.#options.signal
    return new Peer(this.#bus, this.did, { ...this.#options, signal: outer === undefined ? signal : AbortSignal.any([outer, signal]) })
  }

  async chainAt(seq: number): Promise<Uint8Array> {
    return (await this.#chains({ kind: 'chains', first: seq, step: 0, count: 1 }))[0] as Uint8Array
  }

  /** Chain values of the multiples of `CHAIN_STEP` from `first` to `last`, both multiples themselves. */
  async chains(first: number, last: number): Promise<Uint8Array[]> {
    const chains: Uint8Array[] = []
    const wanted = last < first ? 0 : (last - first) / CHAIN_STEP + 1
    while (chains.length < wanted) {
      const count = Math.min(CHAINS_AT_ONCE, wanted - chains.length)
      chains.push(...await this.#chains({ kind: 'chains', first: first + chains.length * CHAIN_STEP, step: CHAIN_STEP, count }))
    }
    return chains
  }

  /** Blocks `from` and on, up to `to`, at least one: as many as one answer brings, or one large one. Views into what was received. */
  async blocks(from: number, to: number): Promise<readonly Uint8Array[]> {
    const answer = await this.#ask({ kind: 'blocks', seq: from, to, offset: 0, bytes: ANSWER_BYTES })
    if (answer.kind === 'piece') return [await this.#rest(from, answer)]
    if (answer.kind !== 'blocks' || answer.blocks.length === 0 || answer.blocks.length > to - from + 1) throw this.#fault('it sent other blocks than it was asked for')
    return answer.blocks
  }

  async #rest(seq: number, start: Extract<Answer, { kind: 'piece' }>): Promise<Uint8Array> {
    const { length } = start
    // Before anything is set aside for it.
    if (length > BLOCK_BYTES) throw this.#fault(`it sent a block of ${length} bytes`)
    const block = Buffer.allocUnsafeSlow(length)
    let filled = 0
    let piece: Answer = start
    for (;;) {
      if (piece.kind !== 'piece' || piece.length !== length || piece.bytes.length === 0 || piece.bytes.length > length - filled) throw this.#fault('the pieces of a block do not fit')
      block.set(piece.bytes, filled)
      filled += piece.bytes.length
      if (filled === length) return block
      piece = await this.#ask({ kind: 'blocks', seq, to: seq, offset: filled, bytes: ANSWER_BYTES })
    }
  }

  async #chains(question: Extract<Question, { kind: 'chains' }>): Promise<readonly Uint8Array[]> {
    const answer = await this.#ask(question)
    if (answer.kind !== 'chains' || answer.chains.length !== question.count) throw this.#fault('it sent other chain values than it was asked for')
    return answer.chains
  }

  async #ask(question: Question): Promise<Answer> {
    const { timeoutMs = 5_000, signal } = this.#options
    const bytes = await this.#bus.request(blocksSubject(this.did), encodeQuestion(question), { timeoutMs, ...(signal !== undefined && { signal }) })
    const answer = decodeAnswer(bytes)
    if (answer.kind === 'refused') throw this.#fault(`it refused: ${answer.reason}`)
    return answer
  }

  #fault(reason: string): CMeshError {
    return new CMeshError('CMESH_STATE_CATCH_UP', { reason: `${this.did}: ${reason}` })
  }
}
