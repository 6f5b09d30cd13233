/** CPU time of processes, all their threads together, from Linux's `/proc`. Elsewhere there is none to tell. */
import { readFileSync } from 'node:fs'

/** `USER_HZ`: ticks a second in which the kernel reports to programs, whatever it counts in itself. */
const TICKS = 100

/** CPU seconds used so far, in user and kernel mode; `undefined` where it cannot be told. */
export function cpuSeconds(pid: number): number | undefined {
  const text = read(`/proc/${pid}/stat`)
  if (text === undefined) return undefined
  // The second field is the program's name in parentheses, and may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS
}

/** Resident memory in MB; `undefined` where it cannot be told. */
export function residentMb(pid: number): number | undefined {
  const kilobytes = /^VmRSS:\s*(\d+) kB$/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1]
  return kilobytes === undefined ? undefined : Number(kilobytes) / 1_024
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    // The process is gone, or this is another system.
    return undefined
  }
}

/** Adds up what each of a set of processes uses while something is measured. */
export class CpuMeter {
  readonly #processes: Readonly<Record<string, number>>
  readonly #used = new Map<string, number>()
  #operations = 0

  /** Processes by name and id. */
  constructor(processes: Readonly<Record<string, number>>) {
    this.#processes = processes
  }

  /** Counts what they use until `work` settles, for `operations` operations. */
  async during<T>(operations: number, work: () => Promise<T>): Promise<T> {
    const before = Object.entries(this.#processes).map(([name, pid]) => [name, pid, cpuSeconds(pid)] as const)
    const result = await work()
    for (const [name, pid, start] of before) {
      const end = cpuSeconds(pid)
      if (start !== undefined && end !== undefined) this.#used.set(name, (this.#used.get(name) ?? 0) + end - start)
    }
    this.#operations += operations
    return result
  }

  /** Forgets what was counted, as of a warm-up. */
  reset(): void {
    this.#used.clear()
    this.#operations = 0
  }

  /** µs of CPU an operation, by process. */
  perOperation(): readonly (readonly [name: string, us: number])[] {
    return [...this.#used].map(([name, seconds]) => [name, seconds * 1e6 / this.#operations] as const)
  }
}
