/**
 * Whether a history of operations that overlapped can be put into one order that a single copy of the object would have answered so, where what
 * ended before another began stands before it. The algorithm is Wing's and Gong's with Lowe's memory of configurations seen.
 *
 * Invariants: (1) an operation whose outcome is unknown may take effect at any time after it began, or never; (2) the verdict is exact, except that a search
 * past `mostSteps` gives `undecided`; (3) nothing here knows a clock: the times are whatever the recorder counted.
 */

export interface Operation<I, O> {
  readonly input: I
  /** `undefined`: it is not known whether it took effect. */
  readonly output: O | undefined
  readonly start: number
  /** Means nothing where the outcome is unknown. */
  readonly end: number
}

export interface Model<S extends number | string, I, O> {
  readonly initial: S
  /** The state behind it; `undefined` where it cannot have answered that. An unknown output is any. */
  readonly step: (state: S, input: I, output: O | undefined) => S | undefined
  /** Whether an operation whose outcome is unknown can be left out of this history: it changes nothing, or nobody saw what it did. */
  readonly isIdle: (input: I, history: readonly Operation<I, O>[]) => boolean
  /** Unknown operations of one kind can stand for each other: the earliest is tried first and the others not before it. */
  readonly kindOf: (input: I) => string
}

export type Verdict = 'linearizable' | 'impossible' | 'undecided'

export type RegisterInput = { readonly kind: 'read' } | { readonly kind: 'write', readonly value: number }
export type CounterInput = { readonly kind: 'read' } | { readonly kind: 'increment' }

/** A register that holds 0 at first. What is written is written once, so that who reads it tells which write it saw. */
export const REGISTER: Model<number, RegisterInput, number> = {
  initial: 0,
  step: (state, input, output) => {
    if (input.kind === 'write') return input.value
    return output === undefined || output === state ? state : undefined
  },
  isIdle: (input, history) => input.kind === 'read' || !history.some(each => each.input.kind === 'read' && each.output === input.value),
  kindOf: input => (input.kind === 'read' ? 'read' : `write ${input.value}`),
}

/** A counter that is 0 at first; an increment answers the value behind it. */
export const COUNTER: Model<number, CounterInput, number> = {
  initial: 0,
  step: (state, input, output) => {
    const after = input.kind === 'increment' ? state + 1 : state
    return output === undefined || output === after ? after : undefined
  },
  isIdle: input => input.kind === 'read',
  kindOf: input => input.kind,
}

const MOST_STEPS = 5_000_000

/** A call, or the return of one, in a list that operations are lifted out of and put back into. */
interface Event<I, O> {
  readonly operation: Operation<I, O>
  readonly index: number
  readonly at: number
  /** Of a call whose outcome is known. */
  returned: Event<I, O> | undefined
  readonly isReturn: boolean
  /** The unknown one of its kind that began before it. */
  readonly twin: number | undefined
  before: Event<I, O> | undefined
  next: Event<I, O> | undefined
}

export function checkHistory<S extends number | string, I, O>(
  history: readonly Operation<I, O>[], model: Model<S, I, O>, mostSteps = MOST_STEPS,
): Verdict {
  const relevant = history.filter(({ input, output }) => output !== undefined || !model.isIdle(input, history))
  const head = eventsOf(relevant, model)
  let known = relevant.filter(({ output }) => output !== undefined).length
  const taken = new Bits(relevant.length)
  const seen = new Set<string>()
  const chosen: { readonly event: Event<I, O>, readonly before: S }[] = []
  let state = model.initial
  let at = head.next
  for (let steps = 0; known > 0; steps++) {
    if (steps >= mostSteps) return 'undecided'
    if (at !== undefined && !at.isReturn) {
      const { operation: { input, output }, index, twin } = at
      const next = twin !== undefined && !taken.has(twin) ? undefined : model.step(state, input, output)
      if (next !== undefined) {
        taken.set(index, true)
        const place = `${taken.key()} ${next}`
        if (!seen.has(place)) {
          seen.add(place)
          chosen.push({ event: at, before: state })
          state = next
          if (output !== undefined) known--
          lift(at)
          at = head.next
          continue
        }
        taken.set(index, false)
      }
      at = at.next
      continue
    }
    // What returned here has to stand before all that follows, and nothing that could be put first is left: the last choice was wrong.
    const last = chosen.pop()
    if (last === undefined) return 'impossible'
    state = last.before
    taken.set(last.event.index, false)
    if (last.event.operation.output !== undefined) known++
    unlift(last.event)
    at = last.event.next
  }
  return 'linearizable'
}

/** The calls and returns in the order of their times, behind a head that is neither. A call comes before a return of the same time: they overlapped. */
function eventsOf<S extends number | string, I, O>(history: readonly Operation<I, O>[], model: Model<S, I, O>): Event<I, O> {
  const twins = new Map<string, number>()
  const byStart = history.map((operation, index) => ({ operation, index })).sort((a, b) => a.operation.start - b.operation.start)
  const events: Event<I, O>[] = []
  for (const { operation, index } of byStart) {
    const kind = model.kindOf(operation.input)
    const isKnown = operation.output !== undefined
    const call = eventOf(operation, index, operation.start, false, isKnown ? undefined : twins.get(kind))
    if (isKnown) events.push(call.returned = eventOf(operation, index, operation.end, true, undefined))
    else twins.set(kind, index)
    events.push(call)
  }
  events.sort((a, b) => a.at - b.at || Number(a.isReturn) - Number(b.isReturn))
  const head = eventOf({} as Operation<I, O>, -1, -Infinity, false, undefined)
  let last = head
  for (const event of events) {
    last.next = event
    event.before = last
    last = event
  }
  return head
}

function eventOf<I, O>(operation: Operation<I, O>, index: number, at: number, isReturn: boolean, twin: number | undefined): Event<I, O> {
  return { operation, index, at, isReturn, twin, returned: undefined, before: undefined, next: undefined }
}

/** Takes a call and its return out of the list; they keep their neighbours, so that they can be put back in reverse order. */
function lift<I, O>(call: Event<I, O>): void {
  for (const event of [call, call.returned]) {
    if (event === undefined) continue
    if (event.before !== undefined) event.before.next = event.next
    if (event.next !== undefined) event.next.before = event.before
  }
}

function unlift<I, O>(call: Event<I, O>): void {
  for (const event of [call.returned, call]) {
    if (event === undefined) continue
    if (event.before !== undefined) event.before.next = event
    if (event.next !== undefined) event.next.before = event
  }
}

/** Which operations stand in the order already. */
class Bits {
  readonly #words: Uint16Array

  constructor(length: number) {
    this.#words = new Uint16Array((length >> 4) + 1)
  }

  has(index: number): boolean {
    return ((this.#words[index >> 4] as number) >> (index & 15) & 1) === 1
  }

  set(index: number, value: boolean): void {
    const word = this.#words[index >> 4] as number
    this.#words[index >> 4] = value ? word | (1 << (index & 15)) : word & ~(1 << (index & 15))
  }

  key(): string {
    return String.fromCharCode(...this.#words)
  }
}
