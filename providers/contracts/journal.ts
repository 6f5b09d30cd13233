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
import { SortedKeys } from './sorted-keys.ts'

/** A contract's state, and its keys in order once somebody scanned them. */
export interface Home {
  readonly address: string
  readonly space: Space
  sorted: SortedKeys | undefined
}

const NOTHING: ReadonlyMap<string, Uint8Array | undefined> = new Map()

/** One space as the call sees it. */
export class Draft {
  readonly home: Home
  /** Most calls write nothing. */
  #pending: Map<string, Uint8Array | undefined> | undefined
  /** The pending keys in order, once the call scanned this space. */
  #sorted: SortedKeys | undefined

  constructor(home: Home) {
    this.home = home
  }

  get pending(): ReadonlyMap<string, Uint8Array | undefined> {
    return this.#pending ?? NOTHING
  }

  get sorted(): SortedKeys {
    return this.#sorted ??= new SortedKeys(this.pending.keys())
  }

  get(key: string): Uint8Array | undefined {
    return this.#pending?.has(key) === true ? this.#pending.get(key) : this.home.space.get(key)
  }

  has(key: string): boolean {
    return this.#pending?.has(key) === true
  }

  put(key: string, value: Uint8Array | undefined): void {
    this.#pending ??= new Map()
    this.#pending.set(key, value)
    this.#sorted?.add(key)
  }

  /** Takes back the first touch of a key. */
  forget(key: string): void {
    this.#pending?.delete(key)
    this.#sorted?.delete(key)
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
  readonly #undo: Undo[] = []
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
    if (this.#marks > 0) this.#undo.push({ draft, key, touched, value: touched ? draft.get(key) : undefined })
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
    return this.#undo.length
  }

  release(): void {
    this.#marks--
    if (this.#marks === 0) this.#undo.length = 0
  }

  rollback(mark: number): void {
    while (this.#undo.length > mark) {
      const { draft, key, touched, value } = this.#undo.pop() as Undo
      if (touched) {
        draft.put(key, value)
      } else {
        draft.forget(key)
        this.#size--
      }
    }
    this.release()
  }

  writes(): Write[] {
    const writes: Write[] = []
    for (const { home: { address }, pending } of this.#all) {
      for (const [key, value] of pending) writes.push({ space: address, key, value })
    }
    return writes
  }

  /** Puts everything into the spaces and gives it as writes. When a space fails, puts back what they had taken and throws. */
  commit(): Write[] {
    if (this.#size === 0) return []
    const homes: Home[] = []
    const before: (Uint8Array | undefined)[] = []
    const writes: Write[] = []
    try {
      for (const { home, pending } of this.#all) {
        for (const [key, value] of pending) {
          homes.push(home)
          before.push(home.space.get(key))
          writes.push({ space: home.address, key, value })
          apply(home, key, value)
        }
      }
    } catch (thrown) {
      for (let i = writes.length - 1; i >= 0; i--) apply(homes[i] as Home, (writes[i] as Write).key, before[i])
      throw thrown
    }
    return writes
  }

  get #all(): Iterable<Draft> {
    if (this.#drafts !== undefined) return this.#drafts.values()
    return this.#first === undefined ? [] : [this.#first]
  }
}

function apply({ space, sorted }: Home, key: string, value: Uint8Array | undefined): void {
  if (value === undefined) {
    space.delete(key)
    sorted?.delete(key)
  } else {
    space.set(key, value)
    sorted?.add(key)
  }
}
