/**
 * Rounds of questions to the other nodes of the mesh. It owns how often they are asked and when a round is over: everybody who is there
 * answered, nobody is there, or it took too long. However many wait for an answer, a kind has one round at a time, and rounds keep apart.
 */
export type Question = 'log' | 'keys'

export interface AskingParts {
  readonly send: (kind: Question) => void
  /** DIDs of the other nodes that were heard lately. */
  readonly present: () => Iterable<string>
  /** ms since 1970. */
  readonly now: () => number
}

/** Between two rounds of a kind, ms. */
const APART_MS = 100
/** Longest a round waits, ms. */
const ROUND_MS = 1_000

interface Round {
  readonly missing: Set<string>
  readonly done: (all: boolean) => void
}

export class Asking {
  readonly #parts: AskingParts
  readonly #running = new Map<Question, Promise<boolean>>()
  readonly #open = new Map<Question, Round>()
  readonly #askedMs = new Map<Question, number>()
  #closed = false

  constructor(parts: AskingParts) {
    this.#parts = parts
  }

  /** Resolves at the end of a round, which may be one that is under way, with whether everybody who is there answered. Never rejects. */
  round(kind: Question): Promise<boolean> {
    let running = this.#running.get(kind)
    if (running === undefined) {
      running = this.#run(kind).finally(() => { this.#running.delete(kind) })
      this.#running.set(kind, running)
    }
    return running
  }

  /** That node has answered. Where it was not known who is there, the first answer is all that a round waits for. */
  answered(kind: Question, node: string): void {
    const round = this.#open.get(kind)
    if (round === undefined) return
    round.missing.delete(node)
    if (round.missing.size === 0) round.done(true)
  }

  /** Nobody is there to answer. */
  nobody(): void {
    for (const { done } of [...this.#open.values()]) done(true)
  }

  /** Ends the rounds under way; none begins after this. */
  close(): void {
    this.#closed = true
    for (const { done } of [...this.#open.values()]) done(false)
  }

  async #run(kind: Question): Promise<boolean> {
    const { send, present, now } = this.#parts
    const waitMs = Math.min(APART_MS, (this.#askedMs.get(kind) ?? -Infinity) + APART_MS - now())
    if (waitMs > 0) await new Promise(resolve => { setTimeout(resolve, waitMs) })
    if (this.#closed) return false
    this.#askedMs.set(kind, now())
    return await new Promise(resolve => {
      const done = (all: boolean): void => {
        clearTimeout(timer)
        this.#open.delete(kind)
        resolve(all)
      }
      const timer = setTimeout(() => { done(false) }, ROUND_MS)
      this.#open.set(kind, { missing: new Set(present()), done })
      send(kind)
    })
  }
}
