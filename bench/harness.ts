/**
 * How a figure is measured: baseline and subject in one process tree, interleaved round by round (A B A B …), medians of
 * all rounds, both printed. The clock of a round starts after a warm-up of its own kind.
 */

export interface Figure {
  readonly name: string
  readonly value: number
  readonly unit: string
}

export interface Ratio {
  /** One of the fixed names, such as `routing/raw`. */
  readonly name: string
  readonly value: number
  readonly goal: number
  /** Whether the goal is reached. */
  readonly met: boolean
}

export interface BenchResult {
  readonly bench: string
  readonly rounds: number
  readonly figures: readonly Figure[]
  readonly ratios: readonly Ratio[]
  /** What the figures do not cover, in plain words. */
  readonly leftOut: readonly string[]
}

export interface BenchOptions {
  /** Few and small rounds: shows that the benchmark runs, not what it measures. */
  readonly smoke: boolean
  readonly log: (line: string) => void
}

export interface Bench {
  readonly name: string
  readonly what: string
  run(options: BenchOptions): Promise<BenchResult>
}

/** Runs every subject once a round, in the same order each time. Resolves with the values of each, by name. */
export async function interleave<N extends string>(rounds: number, subjects: Readonly<Record<N, () => Promise<number>>>): Promise<Record<N, number[]>> {
  const names = Object.keys(subjects) as N[]
  const values = Object.fromEntries(names.map(name => [name, [] as number[]])) as Record<N, number[]>
  for (let round = 0; round < rounds; round++) {
    for (const name of names) values[name].push(await subjects[name]())
  }
  return values
}

/** The median of the ratios round by round: a machine that slows down slows both sides of a round. */
export function medianRatio(values: readonly number[], baseline: readonly number[]): number {
  return median(values.map((value, i) => value / (baseline[i] ?? Number.NaN)))
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** Linear interpolation between the closest ranks. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
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

/** Requests per second of `count` requests with `inFlight` of them under way at any time. */
export async function rate(count: number, inFlight: number, request: (index: number) => Promise<unknown>): Promise<number> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < count) await request(next++)
  }
  const start = performance.now()
  await Promise.all(Array.from({ length: Math.min(inFlight, count) }, worker))
  return count / ((performance.now() - start) / 1000)
}

/** Times of `count` requests one after another, in µs. */
export async function latencies(count: number, request: () => Promise<unknown>): Promise<number[]> {
  const times: number[] = []
  for (let i = 0; i < count; i++) {
    const start = performance.now()
    await request()
    times.push((performance.now() - start) * 1000)
  }
  return times
}
