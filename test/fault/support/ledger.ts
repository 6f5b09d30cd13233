/**
 * The ledger outside of the mesh: every write that was asked for, every acknowledgement with its place and its answer, and every outcome that is not known.
 * What a replica's own log holds is held against it. It knows nothing of how either came to be.
 *
 * A write is named by a number of the ledger's own, which travels among the arguments of the call. So it is found in a log whatever ids the mesh gave it.
 */

export interface Write {
  readonly kind: 'put' | 'increment'
  readonly key: string
}

/** A write as a replica's log has it. */
export interface LoggedWrite extends Write {
  readonly number: number
  /** Block that holds it. */
  readonly seq: number
  /** What it answered. */
  readonly answer: number
}

interface Entry extends Write {
  /** `unknown` until somebody says otherwise. */
  outcome: 'unknown' | 'acknowledged' | 'refused'
  seq: number
  answer: number
  /** The code of the error that said that nothing was done. */
  code?: string
}

export const FAULTS = ['lost', 'duplicated', 'moved', 'altered', 'foreign', 'refused'] as const
/**
 * `lost`: acknowledged and not there. `duplicated`: there twice. `moved`: acknowledged at another place. `altered`: another key, another answer than was given, or
 * than follows from what stands before it. `foreign`: nobody asked for it. `refused`: there, though an error said that nothing was done.
 */
export type FaultKind = (typeof FAULTS)[number]

export interface Fault {
  readonly kind: FaultKind
  readonly replica: string
  readonly number: number
  readonly says: string
}

export class Ledger {
  readonly #entries: Entry[] = []
  readonly #acknowledged: number[] = []
  #refused = 0

  /** Notes a write before it is sent; gives its number, 1 and on. */
  begin({ kind, key }: Write): number {
    this.#entries.push({ kind, key, outcome: 'unknown', seq: 0, answer: 0 })
    return this.#entries.length
  }

  acknowledge(number: number, { seq, answer }: Pick<LoggedWrite, 'seq' | 'answer'>): void {
    Object.assign(this.#entry(number), { outcome: 'acknowledged', seq, answer })
    this.#acknowledged.push(number)
  }

  /** An error said that nothing was done. */
  refuse(number: number, code: string): void {
    Object.assign(this.#entry(number), { outcome: 'refused', code })
    this.#refused++
  }

  get acknowledged(): readonly number[] {
    return this.#acknowledged
  }

  get counts(): { readonly asked: number, readonly acknowledged: number, readonly refused: number, readonly unknown: number } {
    const [asked, acknowledged, refused] = [this.#entries.length, this.#acknowledged.length, this.#refused]
    return { asked, acknowledged, refused, unknown: asked - acknowledged - refused }
  }

  entry(number: number): Readonly<Entry> | undefined {
    return this.#entries[number - 1]
  }

  #entry(number: number): Entry {
    const entry = this.#entries[number - 1]
    if (entry === undefined) throw new Error(`the ledger has no write ${number}`)
    return entry
  }
}

/** One replica's log, as far as it was read, held against the ledger. */
export class ReplicaBook {
  readonly #ledger: Ledger
  readonly #replica: string
  readonly #places = new Map<number, LoggedWrite>()
  readonly #values = new Map<string, number>()
  /** How many of the acknowledgements were looked up. */
  #looked = 0

  constructor(ledger: Ledger, replica: string) {
    this.#ledger = ledger
    this.#replica = replica
  }

  /** Writes that it holds. */
  get held(): number {
    return this.#places.size
  }

  /** Takes the next write of the log; gives what is wrong with it. */
  take(write: LoggedWrite): readonly Fault[] {
    const { number, kind, key, answer, seq } = write
    const entry = this.#ledger.entry(number)
    if (entry === undefined) return [this.#fault('foreign', number, `block ${seq} has it, and nobody asked for it`)]
    const faults: Fault[] = []
    const before = this.#places.get(number)
    if (before !== undefined) faults.push(this.#fault('duplicated', number, `blocks ${before.seq} and ${seq} have it`))
    if (entry.kind !== kind || entry.key !== key) faults.push(this.#fault('altered', number, `${entry.kind} of ${entry.key} was asked for, ${kind} of ${key} is there`))
    const after = kind === 'put' ? number : (this.#values.get(key) ?? 0) + 1
    if (answer !== after) faults.push(this.#fault('altered', number, `${kind} of ${key} answered ${answer} in block ${seq}, where it makes ${after}`))
    this.#values.set(key, answer)
    if (entry.outcome === 'refused') faults.push(this.#fault('refused', number, `block ${seq} has it, and ${entry.code ?? ''} said that nothing was done`))
    if (before === undefined) this.#places.set(number, write)
    return faults
  }

  /** Once the log was read up to everything that was acknowledged: what is missing of it, or not where it was said to be. */
  level(): readonly Fault[] {
    const { acknowledged } = this.#ledger
    const faults: Fault[] = []
    for (; this.#looked < acknowledged.length; this.#looked++) {
      const number = acknowledged[this.#looked] as number
      const said = this.#ledger.entry(number)
      const held = this.#places.get(number)
      if (said === undefined) continue
      if (held === undefined) faults.push(this.#fault('lost', number, `it was acknowledged at ${said.seq}`))
      else if (held.seq !== said.seq) faults.push(this.#fault('moved', number, `it was acknowledged at ${said.seq}, and block ${held.seq} has it`))
      else if (held.answer !== said.answer) faults.push(this.#fault('altered', number, `${said.answer} was answered, and block ${held.seq} has ${held.answer}`))
    }
    return faults
  }

  #fault(kind: FaultKind, number: number, says: string): Fault {
    return { kind, replica: this.#replica, number, says }
  }
}
