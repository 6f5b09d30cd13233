/**
 * A Raft group whose members live in one process: honest, always up, and answering at once. It keeps what Raft keeps about
 * terms, indexes and the quorum, so that a status reads as a real group's does; it keeps no entries and does no I/O.
 *
 * The leader is not elected but follows from each entry's id, as the mock raft of the design has it. A change of leader is
 * an election and so a new term. Terms behind a log of `seq` entries start at 2·seq + 1: an entry raises the term by one at
 * most, so a group that starts again on a longer log starts above every term it had, and no term has two leaders, though
 * nothing but the log is kept.
 */
import { hash } from 'node:crypto'
import { quorumOf, type ConsensusMember, type LogPosition } from '../../services/consensus/provider.ts'

interface AppendEntry {
  readonly term: number
  readonly leader: number
  readonly index: number
  /** What the leader knows to be committed when it sends this. */
  readonly commitIndex: number
}

interface Echo {
  readonly term: number
  readonly success: boolean
}

/** One member: what it persisted (term, last index) and what it heard to be committed. */
class Member {
  readonly id: string
  term: number
  lastIndex: number
  commitIndex: number

  constructor(id: string, term: number, index: number) {
    this.id = id
    this.term = term
    this.lastIndex = index
    this.commitIndex = index
  }

  /** Follows any leader of a term at least its own whose entry is the next one. */
  append(entry: AppendEntry): Echo {
    if (entry.term < this.term || entry.index !== this.lastIndex + 1) return { term: this.term, success: false }
    this.term = entry.term
    this.lastIndex = entry.index
    this.commitIndex = Math.min(entry.commitIndex, this.lastIndex)
    return { term: this.term, success: true }
  }
}

export class SimulatedRaft {
  readonly quorum: number
  readonly #members: readonly Member[]
  #term: number
  #leader: number
  #lastIndex: number
  #commitIndex: number

  /** `members` is their ids, one to nine; `from` the position that all of them hold. */
  constructor(members: readonly string[], from: LogPosition) {
    this.#term = 2 * from.seq + 1
    this.#leader = from.seq % members.length
    this.#lastIndex = from.seq
    this.#commitIndex = from.seq
    this.#members = members.map(id => new Member(id, this.#term, from.seq))
    this.quorum = quorumOf(members)
  }

  get term(): number {
    return this.#term
  }

  get lastIndex(): number {
    return this.#lastIndex
  }

  get commitIndex(): number {
    return this.#commitIndex
  }

  get leader(): string {
    return (this.#members[this.#leader] as Member).id
  }

  members(): ConsensusMember[] {
    return this.#members.map(({ id, lastIndex }, i) => {
      return { id, role: i === this.#leader ? 'leader' : 'follower', matchIndex: lastIndex }
    })
  }

  /** Orders the entry of this id: its leader gives it the next index and commits it once a quorum echoed. Gives the index. */
  order(id: string): number {
    const leader = parseInt(hash('sha256', id, 'hex').slice(0, 8), 16) % this.#members.length
    if (leader !== this.#leader) {
      this.#leader = leader
      this.#term++
    }
    const entry: AppendEntry = { term: this.#term, leader, index: this.#lastIndex + 1, commitIndex: this.#commitIndex }
    this.#lastIndex = entry.index
    let echoes = 0
    // The leader first: it appends before it sends.
    for (let i = 0; i < this.#members.length; i++) {
      const member = this.#members[(leader + i) % this.#members.length] as Member
      const echo = member.append(entry)
      if (echo.success && echo.term === this.#term) echoes++
      if (echoes === this.quorum) this.#commitIndex = entry.index
    }
    return entry.index
  }
}
