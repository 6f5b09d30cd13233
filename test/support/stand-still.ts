/**
 * Stops a process as SIGSTOP does, and says when it has. The signal alone promises nothing about now: one thread of the process has to run to take it, and
 * until then the others go on, on a busy machine for as long as it is busy.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { until } from '../client/support/until.ts'

/** SIGSTOP; resolves when no thread of the process runs any more. SIGCONT lets it go on. */
export async function standStill(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP')
  await until('the process stands still', () => statesOf(pid).every(state => state === 'T'))
}

/** The state of each thread, as the system has it: `T` is one that was stopped. */
function statesOf(pid: number): (string | undefined)[] {
  if (process.platform !== 'linux') return [execFileSync('ps', ['-o', 'state=', '-p', String(pid)], { encoding: 'utf8' }).trim().charAt(0)]
  return readdirSync(`/proc/${pid}/task`).map(thread => stateIn(`/proc/${pid}/task/${thread}/stat`))
}

/** A thread that ended since it was listed counts as one that still runs: the next look knows better. */
function stateIn(file: string): string | undefined {
  try {
    const text = readFileSync(file, 'utf8')
    return text.charAt(text.lastIndexOf(')') + 2)
  } catch {
    return undefined
  }
}
