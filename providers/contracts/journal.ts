/**
 * What one call from outside wants to change, in all the spaces it comes to by nested calls. Nothing reaches a space before
 * `commit`, so that a call that fails leaves them as they were, down to the order of their keys, and a replica that applies the
 * recorded writes without running the code ends with the same spaces as one that ran it. Reads see the call's own writes.
 *
 * Invariants:
 * 1. `writes` holds each touched key once, with its final value: by space in the order of first use, in it in the order of first touch.
 * 2. `rollback(mark)` leaves every draft as it was at that `mark`, its order included.
 */
import type { Space, Write } from '../../services/state/provider.ts'
import type { MemoryView } from './memory.ts'
import { SortedKeys } from './sorted-keys.ts'

/** A contract's state, and its keys in order once somebody scanned them. */
export interface Home {
  readonly address: string
  readonly space: Space
  sorted: SortedKeys | undefined
}

/** One space as the call sees it. Most calls change no key of a space or one: a map is made for the second. */
export class Draft {
  readonly home: Home
  #key: string | undefined
  #value: Uint8Array | undefined
  /** All pending keys, once there were two. */
  #pending: Map<string, Uint8Array | undefined> | undefined
  /** The pending keys in order, once the call scanned this space. */
  #sorted: SortedKeys | undefined

  constructor(home: Home) {
    this.home = home
  }

  /** Keys that the call changed. */
  get size(): number {
    return this.#pending?.size ?? (this.#key === undefined ? 0 : 1)
  }

  get sorted(): SortedKeys {
    return this.#sorted ??= new SortedKeys(this.#pending?.keys() ?? (this.#key === undefined ? [] : [this.#key]))
  }

  get(key: string): Uint8Array | undefined {
    if (!this.has(key)) return this.home.space.get(key)
    return this.#pending === undefined ? this.#value : this.#pending.get(key)
  }

  /** The same for a key in a contract's memory, within which it lies. */
  getAt(memory: MemoryView, at: number, length: number): Uint8Array | undefined {
    const { space } = this.home
    // While nothing is pending the text of the key is of no use.
    return this.size === 0 && space.getBytes !== undefined ? space.getBytes(memory.bytes, at, length) : this.get(memory.latin1(at, length))
  }

  has(key: string): boolean {
    return this.#pending === undefined ? key === this.#key : this.#pending.has(key)
  }

  put(key: string, value: Uint8Array | undefined): void {
    this.#sorted?.add(key)
    if (this.#pending === undefined) {
      if (this.#key === undefined || this.#key === key) {
        this.#key = key
        this.#value = value
        return
      }
      this.#pending = new Map([[this.#key, this.#value]])
    }
    this.#pending.set(key, value)
  }

  /** Takes back the first touch of a key. */
  forget(key: string): void {
    this.#sorted?.delete(key)
    if (this.#pending === undefined) this.#key = this.#value = undefined
    else this.#pending.delete(key)
  }

  /** What is pending, in the order of first touch. */
  writes(): Write[] {
    const space = this.home.address
    if (this.#pending === undefined) return this.#key === undefined ? [] : [{ space, key: this.#key, value: this.#value }]
    return Array.from(this.#pending, ([key, value]) => ({ space, key, value }))
  }
}

interface Undo {
  readonly draft: Draft
  readonly key: string
  readonly touched: boolean
  readonly value: Uint8Array | undefined
}

export class Journal {
  /** By address, once there is a second one. */
  #drafts: Map<string, Draft> | undefined
  #first: Draft | undefined
  /** Made for the first mark: most calls set none. */
  #undo: Undo[] | undefined
  #marks = 0
  #size = 0

  /** How many keys were touched. */
  get size(): number {
    return this.#size
  }

  draft(home: Home): Draft {
    const first = this.#first ??= new Draft(home)
    if (first.home.address === home.address) return first
    this.#drafts ??= new Map([[first.home.address, first]])
    let draft = this.#drafts.get(home.address)
    if (draft === undefined) {
      draft = new Draft(home)
      this.#drafts.set(home.address, draft)
    }
    return draft
  }

  /** Takes over `value`. */
  set(draft: Draft, key: string, value: Uint8Array | undefined): void {
    const touched = draft.has(key)
    // Without a mark there is nothing to go back to but the beginning.
    if (this.#undo !== undefined && this.#marks > 0) this.#undo.push({ draft, key, touched, value: touched ? draft.get(key) : undefined })
    if (!touched) this.#size++
    draft.put(key, value)
  }

  /** Gives whether there was something to delete. */
  delete(draft: Draft, key: string): boolean {
    if (draft.get(key) === undefined) return false
    this.set(draft, key, undefined)
    return true
  }

  /** A place to go back to. Each is ended once, the latest first, by `release` or `rollback`. */
  mark(): number {
    this.#marks++
    this.#undo ??= []
    return this.#undo.length
  }

  release(): void {
    this.#marks--
    if (this.#marks === 0) this.#undo = undefined
  }

  rollback(mark: number): void {
    const undo = this.#undo as Undo[]
    while (undo.length > mark) {
      const { draft, key, touched, value } = undo.pop() as Undo
      if (touched) {
        draft.put(key, value)
      } else {
        draft.forget(key)
        this.#size--
      }
    }
    this.release()
  }

  writes(): readonly Write[] {
    if (this.#size === 0) return NOTHING
    if (this.#drafts !== undefined) return [...this.#drafts.values()].flatMap(draft => draft.writes())
    return this.#first?.writes() ?? []
  }

  /** Puts everything into the spaces and gives it as writes. When a space fails, puts back what they had taken and throws. */
  commit(): readonly Write[] {
    const writes = this.writes()
    if (writes.length === 0) return writes
    if (writes.length === 1) {
      // One that fails has nothing before it to put back.
      apply(this.#homeOf(writes[0] as Write), writes[0] as Write)
      return writes
    }
    const before = writes.map(write => this.#homeOf(write).space.get(write.key))
    let taken = 0
    try {
      for (; taken < writes.length; taken++) apply(this.#homeOf(writes[taken] as Write), writes[taken] as Write)
    } catch (thrown) {
      for (; taken >= 0; taken--) {
        const write = writes[taken] as Write
        apply(this.#homeOf(write), { ...write, value: before[taken] })
      }
      throw thrown
    }
    return writes
  }

  #homeOf({ space }: Write): Home {
    const draft = (this.#drafts?.get(space) ?? this.#first) as Draft
    return draft.home
  }
}

/** Of the many calls that change nothing. */
const NOTHING: readonly Write[] = Object.freeze([])

function apply({ space, sorted }: Home, { key, value }: Write): void {
  if (value === undefined) {
    space.delete(key)
    sorted?.delete(key)
  } else {
    space.set(key, value)
    sorted?.add(key)
  }
}
