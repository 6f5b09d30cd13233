/**
 * The tree over all keys of all contracts, in memory: what a state root is the root of. It hashes what changed since it was asked
 * last and nothing else. Its form follows from what it holds, never from the order in which that came (`cmtp/state-hash.ts`).
 *
 * `keep` fixes what it holds, values included: that can be shown while the tree goes on, until the next is kept. What of it is changed
 * afterwards is copied first. The bytes that are hashed lie together, a page's and a branch's each in one buffer with its prefix: with
 * a million keys a look at memory costs more than a hash.
 */
import {
  BRANCH_CHILDREN, BRANCH_PREFIX, childAt, ENTRY_BYTES, HASH_BYTES, keyPath, nodeHash, PAGE_ENTRIES, PAGE_PREFIX, valueDigest,
} from '../../cmtp/state-hash.ts'

interface Page {
  /** Of which turn of the tree it is: one of an earlier turn is never changed. */
  readonly turn: number
  /** Prefix and entries in order of their paths, then room for more. */
  bytes: Buffer
  /** Beside the entries. */
  readonly values: Uint8Array[]
  changed: boolean
}

interface Branch {
  readonly turn: number
  readonly children: Node[]
  /** Prefix and the hashes of the children, those of changed ones as they were. */
  readonly bytes: Buffer
  /** Entries below it. */
  size: number
  changed: boolean
}

type Node = Page | Branch

/** What the tree says of one key. */
export interface Shown {
  readonly value: Uint8Array | undefined
  /** As in a proof. */
  readonly page: string
  readonly path: readonly string[]
}

/** A page grows by so many entries at once. */
const ROOM = 8

export class StateTree {
  #turn = 0
  #root: Node = emptyPage(0)
  #kept: { readonly node: Node, readonly root: string } | undefined

  get size(): number {
    return sizeOf(this.#root)
  }

  /** The value of a key; `undefined` takes the key out. */
  set(contract: string, key: string, value: Uint8Array | undefined): void {
    const path = keyPath(contract, key)
    this.#root = value === undefined ? remove(this.#root, path, 0, this.#turn) : insert(this.#root, { path, digest: valueDigest(value), value }, 0, this.#turn)
  }

  /** Hashes what changed, so that less is left to do for `keep`. */
  settle(): void {
    if (this.#root.changed) hashOf(this.#root)
  }

  /** Fixes what the tree holds now. Gives its root: 32 bytes. */
  keep(): Uint8Array {
    if (this.#kept?.node !== this.#root || this.#root.changed) this.#kept = { node: this.#root, root: hashOf(this.#root) }
    this.#turn++
    return new Uint8Array(Buffer.from(this.#kept.root, 'latin1'))
  }

  /** What was kept last says of a key. Throws a `RangeError` before anything was. */
  show(contract: string, key: string): Shown {
    if (this.#kept === undefined) throw new RangeError('nothing was kept')
    const place = keyPath(contract, key)
    const path: string[] = []
    let { node } = this.#kept
    while (isBranch(node)) {
      const at = childAt(place, path.length)
      const hashes = node.bytes.toString('latin1', 1)
      path.push(hashes.slice(0, at * HASH_BYTES) + hashes.slice((at + 1) * HASH_BYTES))
      node = node.children[at] as Node
    }
    const at = find(node, place, 0)
    return { value: isAt(node, at, place) ? node.values[at] : undefined, page: node.bytes.toString('latin1', 1, entryAt(sizeOf(node))), path }
  }
}

interface Entry {
  readonly path: string
  readonly digest: string
  readonly value: Uint8Array
}

function emptyPage(turn: number): Page {
  return { turn, bytes: roomFor(0), values: [], changed: true }
}

function roomFor(entries: number): Buffer {
  // Of its own: a page lives on while its neighbours in a pool are long gone.
  const bytes = Buffer.allocUnsafeSlow(1 + entries * ENTRY_BYTES)
  bytes[0] = PAGE_PREFIX
  return bytes
}

function isBranch(node: Node): node is Branch {
  return 'children' in node
}

function sizeOf(node: Node): number {
  return isBranch(node) ? node.size : node.values.length
}

/** Where entry `i` of a page begins. */
function entryAt(i: number): number {
  return 1 + i * ENTRY_BYTES
}

function hashOf(node: Node): string {
  node.changed = false
  if (!isBranch(node)) return nodeHash(node.bytes.subarray(0, entryAt(node.values.length)))
  const { children, bytes } = node
  for (let i = 0; i < BRANCH_CHILDREN; i++) {
    const child = children[i] as Node
    if (child.changed) bytes.write(hashOf(child), 1 + i * HASH_BYTES, 'latin1')
  }
  return nodeHash(bytes)
}

/** Where a path stands in a page, or would. All paths of a page are alike in their first `depth` half bytes. */
function find({ bytes, values }: Page, path: string, depth: number): number {
  let [low, high] = [0, values.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (order(bytes, entryAt(middle), path, depth >>> 1) < 0) low = middle + 1
    else high = middle
  }
  return low
}

function order(bytes: Buffer, offset: number, path: string, from: number): number {
  for (let i = from; i < HASH_BYTES; i++) {
    const difference = (bytes[offset + i] as number) - path.charCodeAt(i)
    if (difference !== 0) return difference
  }
  return 0
}

function isAt({ bytes, values }: Page, at: number, path: string): boolean {
  return at < values.length && order(bytes, entryAt(at), path, 0) === 0
}

/** The page, to be changed in this turn. */
function ownPage(page: Page, turn: number): Page {
  if (page.turn !== turn) return { turn, bytes: ownBytes(page.bytes), values: page.values.slice(), changed: true }
  page.changed = true
  return page
}

function ownBranch(branch: Branch, turn: number): Branch {
  if (branch.turn !== turn) return { turn, children: branch.children.slice(), bytes: ownBytes(branch.bytes), size: branch.size, changed: true }
  branch.changed = true
  return branch
}

function ownBytes(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(copy)
  return copy
}

function insert(node: Node, entry: Entry, depth: number, turn: number): Node {
  const { path, digest, value } = entry
  if (isBranch(node)) {
    const own = ownBranch(node, turn)
    const at = childAt(path, depth)
    const child = own.children[at] as Node
    const before = sizeOf(child)
    const after = insert(child, entry, depth + 1, turn)
    if (after !== child) own.children[at] = after
    own.size += sizeOf(after) - before
    return own
  }
  const page = ownPage(node, turn)
  const { values } = page
  const at = find(page, path, depth)
  if (isAt(page, at, path)) {
    page.bytes.write(digest, entryAt(at) + HASH_BYTES, 'latin1')
    values[at] = value
    return page
  }
  if (page.bytes.length < entryAt(values.length + 1)) {
    const larger = roomFor(values.length + ROOM)
    page.bytes.copy(larger)
    page.bytes = larger
  }
  page.bytes.copyWithin(entryAt(at + 1), entryAt(at), entryAt(values.length))
  page.bytes.write(path, entryAt(at), 'latin1')
  page.bytes.write(digest, entryAt(at) + HASH_BYTES, 'latin1')
  values.splice(at, 0, value)
  return values.length > PAGE_ENTRIES ? split(page, depth) : page
}

/** The same entries a level further down. */
function split({ turn, bytes, values }: Page, depth: number): Node {
  const branch: Branch = { turn, children: [], bytes: Buffer.allocUnsafeSlow(1 + BRANCH_CHILDREN * HASH_BYTES), size: values.length, changed: true }
  branch.bytes[0] = BRANCH_PREFIX
  let from = 0
  for (let child = 0; child < BRANCH_CHILDREN; child++) {
    let to = from
    while (to < values.length && childAt(bytes.toString('latin1', entryAt(to), entryAt(to) + HASH_BYTES), depth) === child) to++
    const page: Page = { turn, bytes: roomFor(to - from), values: values.slice(from, to), changed: true }
    bytes.copy(page.bytes, 1, entryAt(from), entryAt(to))
    branch.children.push(page.values.length > PAGE_ENTRIES ? split(page, depth + 1) : page)
    from = to
  }
  return branch
}

function remove(node: Node, path: string, depth: number, turn: number): Node {
  if (isBranch(node)) {
    const at = childAt(path, depth)
    const child = node.children[at] as Node
    const before = sizeOf(child)
    const after = remove(child, path, depth + 1, turn)
    // What was not there leaves everything as it is.
    if (sizeOf(after) === before) return node
    const own = ownBranch(node, turn)
    own.children[at] = after
    own.size--
    return own.size > PAGE_ENTRIES ? own : gather(own)
  }
  const at = find(node, path, depth)
  if (!isAt(node, at, path)) return node
  const page = ownPage(node, turn)
  page.bytes.copyWithin(entryAt(at), entryAt(at + 1), entryAt(page.values.length))
  page.values.splice(at, 1)
  return page
}

/** A branch whose entries fit a page again. What is below it are pages: each holds no more than it. */
function gather({ turn, children, size }: Branch): Page {
  const page: Page = { turn, bytes: roomFor(size), values: [], changed: true }
  for (const child of children as Page[]) {
    child.bytes.copy(page.bytes, entryAt(page.values.length), 1, entryAt(child.values.length))
    page.values.push(...child.values)
  }
  return page
}
