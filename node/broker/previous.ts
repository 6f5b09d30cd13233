/**
 * The server that an earlier process left running in the same directory. When a node is killed, the guard stops its server, and
 * that takes a moment; two servers on one store would destroy it. This waits for the first to go and starts nothing before.
 */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CMeshError } from '../../cmtp/errors.ts'
import { BROKER_FILES } from './config.ts'

/** The guard gives a server five seconds before it kills it; a little more is waited, in ms. */
const WAIT_MS = 8_000
const POLL_MS = 20

/**
 * Resolves when no nats-server runs on the configuration in `dir`. Rejects with `CMESH_BROKER_FAILED` when one still does after
 * `waitMs` (default 8,000): then it belongs to a node that lives.
 */
export async function awaitPrevious(dir: string, waitMs = WAIT_MS): Promise<void> {
  const pid = Number(await readFile(path.join(dir, BROKER_FILES.pid), 'utf8').catch(() => ''))
  if (!Number.isInteger(pid) || pid <= 1) return
  const config = path.join(dir, BROKER_FILES.config)
  const deadline = performance.now() + waitMs
  while (await runs(pid, config)) {
    if (performance.now() > deadline) {
      throw new CMeshError('CMESH_BROKER_FAILED', { reason: `${dir} is in use by the nats-server with process id ${pid}` })
    }
    await delay(POLL_MS)
  }
}

/** Process ids are used again, so the command must name our configuration as well. */
async function runs(pid: number, config: string): Promise<boolean> {
  return (await commandOf(pid)).includes(config)
}

async function commandOf(pid: number): Promise<string> {
  if (process.platform === 'linux') return (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ')
  return new Promise((resolve) => {
    execFile('ps', ['-p', String(pid), '-o', 'command='], (error, stdout) => resolve(error === null ? stdout : ''))
  })
}
