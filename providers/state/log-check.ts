/**
 * Takes the blocks of a log one after another and holds each to what a log is: bytes that have one form, dense sequences, a chain, a
 * tree. What it keeps is the state that they amount to. It reads nothing itself, so a log and a copy of one in any form are held to the same.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { encodeBlock } from '../../services/state/block.ts'
import type { Block, Space, StateHead } from '../../services/state/provider.ts'
import { BlockTree } from './block-tree.ts'
import { StateImage } from './image.ts'

export class LogCheck {
  readonly #path: string
  readonly #image = new StateImage()
  readonly #tree = new BlockTree()
  #blocks = 0

  /** `path` is where the blocks come from, for the errors. */
  constructor(path: string) {
    this.#path = path
  }

  get head(): StateHead {
    return this.#image.head
  }

  /** Blocks taken. */
  get blocks(): number {
    return this.#blocks
  }

  /** Hash over the tree of the blocks taken. */
  get root(): Uint8Array {
    return this.#tree.root()
  }

  space(name: string): Space {
    return this.#image.space(name)
  }

  /** Throws `CMESH_STATE_CORRUPT` with path and block. */
  take(bytes: Uint8Array): Block {
    const source = { path: this.#path, block: this.#blocks }
    const block = this.#image.replay(bytes, source)
    if (Buffer.compare(encodeBlock(block), bytes) !== 0) throw new CMeshError('CMESH_STATE_CORRUPT', { ...source, reason: 'its bytes are not in their one form' })
    this.#tree.append(bytes)
    this.#blocks++
    return block
  }
}
