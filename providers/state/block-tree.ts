/**
 * The tree over the blocks of a log, grown block by block: Hypercore's own, so its hash is the one that a log's key signs. It follows
 * from the blocks alone; two logs of one order have one root, whichever keys sign them. Only the roots are kept.
 */
import { data, parent, tree, type TreeNode } from 'hypercore-crypto'

export class BlockTree {
  readonly #roots: TreeNode[] = []
  #length = 0

  append(block: Uint8Array): void {
    this.#roots.push({ index: 2 * this.#length, size: block.length, hash: data(block) })
    this.#length++
    // As many pairs are complete now as the length ends in zeros.
    for (let rest = this.#length; rest % 2 === 0; rest /= 2) {
      const [left, right] = this.#roots.splice(-2) as [TreeNode, TreeNode]
      this.#roots.push({ index: (left.index + right.index) / 2, size: left.size + right.size, hash: parent(left, right) })
    }
  }

  /** 32 bytes; zeros for no block. */
  root(): Uint8Array {
    return this.#length === 0 ? new Uint8Array(32) : tree(this.#roots)
  }
}
