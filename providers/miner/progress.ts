/**
 * How far a log file is done: entries end in any order, the position moves over the longest run from the beginning that
 * has ended. What is behind the position is never read again; what is before it may be, after a crash.
 *
 * Invariant: the position is never past an entry that has not ended, and it lies at the end of a line.
 */

export interface Position<File> {
  readonly file: File
  readonly offset: number
}

interface Piece<File> {
  readonly file: File
  end: number
  ended: boolean
}

export class Progress<File> {
  readonly #pieces: Piece<File>[] = []
  #position: Position<File>

  constructor(position: Position<File>) {
    this.#position = position
  }

  get position(): Position<File> {
    return this.#position
  }

  /** Entries between the position and the end of what was read: all that have not ended, and those that ended out of turn. */
  get open(): number {
    return this.#pieces.length
  }

  /** An entry begins that ends at `offset`. Returns what to call, once, when it is over. */
  begin(file: File, offset: number): () => void {
    const piece = { file, end: offset, ended: false }
    this.#pieces.push(piece)
    return () => {
      piece.ended = true
      this.#advance()
    }
  }

  /** Everything up to `offset` that is no entry is passed over; also how a new file is begun, with 0. */
  pass(file: File, offset: number): void {
    const last = this.#pieces.at(-1)
    // Attached to the entry before it, so that no number of blank lines takes memory.
    if (last === undefined) this.#position = { file, offset }
    else if (last.file === file) last.end = offset
    else this.begin(file, offset)()
  }

  #advance(): void {
    let count = 0
    for (const piece of this.#pieces) {
      if (!piece.ended) break
      this.#position = { file: piece.file, offset: piece.end }
      count++
    }
    this.#pieces.splice(0, count)
  }
}
