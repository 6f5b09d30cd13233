/**
 * What a log amounts to in memory: the spaces of the contracts and the head. Every store keeps one and lets it decide
 * whether a block comes next, so that stores cannot differ in that. No I/O, and no say over durability.
 *
 * Invariants: sequences are dense and epochs never go back, alike for blocks that are appended and blocks read back; the
 * head moves only past a block that was accepted.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { chainAfter, decodeBlock, emptyChain, encodeBlock, scanBlock } from '../../services/state/block.ts'
import type { BlockSource, ReadBlock } from '../../services/state/block.ts'
import { SYSTEM_SPACE, type Block, type StateHead } from '../../services/state/provider.ts'
import { ChainIndex } from './chain-index.ts'
import { PackedSpace, type ByteSpace } from './packed-space.ts'
import { RememberedSpace } from './remembered-space.ts'

export class StateImage {
  /** Chain values of older sequences. */
  readonly chains = new ChainIndex()
  readonly #spaces = new Map<string, ByteSpace>()
  #head: StateHead = { epoch: 0, seq: 0, timeMs: 0, chain: emptyChain() }

  get head(): StateHead {
    return this.#head
  }

  space(name: string): ByteSpace {
    let space = this.#spaces.get(name)
    if (space === undefined) {
      space = emptySpace(name)
      this.#spaces.set(name, space)
    }
    return space
  }

  spaces(): Iterable<string> {
    return this.#spaces.keys()
  }

  /**
   * Moves the head past a block whose writes are in the spaces already, and gives its bytes. Throws
   * `CMESH_STATE_HALTED` for a block that does not come next and `CMESH_STATE_BLOCK` for one that cannot be written.
   */
  append(block: Block): Uint8Array {
    const misfit = this.#misfit(block)
    if (misfit !== undefined) throw new CMeshError('CMESH_STATE_HALTED', { reason: misfit })
    const bytes = encodeBlock(block)
    this.#advance(block, bytes)
    return bytes
  }

  /** Begins with what a snapshot holds. A space that somebody has asked for already stays the one that it is. */
  load(spaces: ReadonlyMap<string, ByteSpace>, before: Omit<StateHead, 'timeMs'>): void {
    for (const [name, keys] of spaces) {
      const there = this.#spaces.get(name)
      if (there === undefined) this.#spaces.set(name, keys)
      else for (const [key, value] of keys) there.set(key, value)
    }
    this.#head = { ...before, timeMs: 0 }
    this.chains.begin(this.#head)
  }

  /** Stands at a head that was passed before, or forgets everything. */
  rewind(head: StateHead | undefined): void {
    if (head === undefined) {
      for (const keys of this.#spaces.values()) keys.clear()
      this.chains.begin()
    }
    this.#head = head ?? { epoch: 0, seq: 0, timeMs: 0, chain: emptyChain() }
  }

  /** Takes in a block whose writes are in the spaces already. Throws `CMESH_STATE_CORRUPT` with the source. */
  pass(bytes: Uint8Array, source: BlockSource): Block {
    const block = decodeBlock(bytes, source)
    const misfit = this.#misfit(block)
    if (misfit !== undefined) throw new CMeshError('CMESH_STATE_CORRUPT', { ...source, reason: misfit })
    this.#advance(block, bytes)
    return block
  }

  /**
   * Takes in a block read back from a log: its writes, then the head. Throws `CMESH_STATE_CORRUPT` with the source; the image is of no
   * use then.
   */
  replay(bytes: Uint8Array, source: BlockSource): ReadBlock {
    let name: string | undefined
    let space: ByteSpace | undefined
    const block = scanBlock(bytes, source, (of, keyAt, keyBytes, valueAt, valueBytes) => {
      if (space === undefined || of !== name) space = this.space(name = of)
      if (valueAt < 0) space.deleteBytes(bytes, keyAt, keyBytes)
      else space.setBytes(bytes, keyAt, keyBytes, valueAt, valueBytes)
    })
    const misfit = this.#misfit(block)
    if (misfit !== undefined) throw new CMeshError('CMESH_STATE_CORRUPT', { ...source, reason: misfit })
    this.#advance(block, bytes)
    return block
  }

  #misfit(block: Block): string | undefined {
    const { epoch, seq } = this.#head
    if (block.seq !== seq + 1) return `sequence ${block.seq} follows ${seq}`
    if (block.epoch < epoch) return `epoch ${block.epoch} follows ${epoch}`
    return undefined
  }

  #advance(block: Block, bytes: Uint8Array): void {
    const { epoch, seq, timeMs } = block
    this.#head = { epoch, seq, timeMs, chain: chainAfter(this.#head.chain, bytes) }
    this.chains.add(this.#head)
  }
}

/** A space of that name without keys. */
export function emptySpace(name: string): ByteSpace {
  return name === SYSTEM_SPACE ? new RememberedSpace() : new PackedSpace()
}
