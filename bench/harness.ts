/**
 * How a figure is measured, and what a benchmark is. Baseline and subject run in one process tree, interleaved round by round
 * (A B A B …) after a warm-up of each; a ratio is the median of the rounds' ratios. It starts no process and prints nothing.
 */

export interface Figure {
  readonly name: string
  readonly value: number
  readonly unit: string
}

export interface Ratio {
  /** One of the fixed names, such as `routing/raw`. A figure with a goal, such as `boot/ms`, stands among the ratios too. */
  readonly name: string
  readonly value: number
  readonly goal: number
  readonly met: boolean
}

export interface BenchResult {
  readonly rounds: number
  readonly figures: readonly Figure[]
  readonly ratios: readonly Ratio[]
  /** What the figures do not cover, in plain words. */
  readonly leftOut: readonly string[]
}

export interface BenchOptions {
  /** Few and small rounds: shows that the benchmark runs, not what it measures. */
  readonly smoke: boolean
  /** Told what is being done, a line each. */
  readonly log: (line: string) => void
  /** Whatever the benchmark starts or makes is registered here; its owner ends it. */
  readonly scope: Scope
}

export interface Bench {
  /** As it is asked for on the command line. */
  readonly name: string
  /** One line: what is measured, against what. */
  readonly what: string
  run(options: BenchOptions): Promise<BenchResult>
}

/** What is to be undone, newest first, however a benchmark ends. */
export class Scope {
  #undo: (() => Promise<unknown>)[] = []

  /** Registers what ends a thing that was started. */
  defer(undo: () => Promise<unknown>): void {
    this.#undo.push(undo)
  }

  /** Undoes everything, also past a failure, which it then throws. Safe to call again. */
  async close(): Promise<void> {
    let failure: { readonly error: unknown } | undefined
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      try {
        await undo()
      } catch (error) {
        failure ??= { error }
      }
    }
    if (failure !== undefined) throw failure.error
  }
}

/** Runs every subject once a round, in the same order each time. Resolves with the values of each, by name. */
export async function interleave<N extends string, T>(
  rounds: number, subjects: Readonly<Record<N, () => Promise<T>>>, onRound?: (round: number) => void,
): Promise<Record<N, T[]>> {
  const names = Object.keys(subjects) as N[]
  const values = Object.fromEntries(names.map(name => [name, []])) as unknown as Record<N, T[]>
  for (let round = 0; round < rounds; round++) {
    onRound?.(round + 1)
    for (const name of names) values[name].push(await subjects[name]())
  }
  return values
}

/** The median of the ratios round by round: a machine that slows down slows both sides of a round. */
export function medianRatio(values: readonly number[], baseline: readonly number[]): number {
  if (values.length !== baseline.length) throw new RangeError(`${values.length} rounds cannot be held against ${baseline.length}`)
  return median(values.map((value, i) => value / (baseline[i] as number)))
}

/** NaN without values. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** Linear interpolation between the closest ranks; NaN without values. */
export function quantile(values: readonly number[] | Float64Array, q: number): number {
  const sorted = Float64Array.from(values).sort()
  const at = (sorted.length - 1) * q
  const low = sorted[Math.floor(at)] ?? Number.NaN
  const high = sorted[Math.ceil(at)] ?? Number.NaN
  return low + (high - low) * (at - Math.floor(at))
}

/** `value` must reach at least `goal`. */
export function atLeast(name: string, value: number, goal: number): Ratio {
  return { name, value, goal, met: value >= goal }
}

/** `value` must not pass `goal`. */
export function atMost(name: string, value: number, goal: number): Ratio {
  return { name, value, goal, met: value <= goal }
}

/** Runs `operation` `count` times, `inFlight` of them at any time. Rejects with the first failure. */
export async function inParallel(count: number, inFlight: number, operation: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < count) await operation(next++)
  }
  await Promise.all(Array.from({ length: Math.min(inFlight, count) }, worker))
}

/** How long each of `count` operations takes, one after another, in µs. */
export async function latencies(count: number, operation: () => Promise<unknown>): Promise<Float64Array> {
  const times = new Float64Array(count)
  for (let i = 0; i < count; i++) {
    const start = performance.now()
    await operation()
    times[i] = (performance.now() - start) * 1_000
  }
  return times
}
