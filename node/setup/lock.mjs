/**
 * One set-up of a project at a time, among all processes of this user. A lock names its holder, so that one left behind by a
 * process that died is taken over. It lies in the temporary directory: node_modules is emptied by the very work it guards.
 */
import { createHash } from 'node:crypto'
import { link, readFile, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { SetupError } from './failure.mjs'

const POLL_MS = 100
/** Longest wait for another set-up, in ms. An install over a slow line takes minutes. */
const WAIT_MS = 15 * 60_000
/** Taking over a dead holder's lock takes microseconds; whoever left this much, in ms, behind died doing it. */
const TAKEOVER_MS = 10_000

/**
 * Runs `work` while holding the lock of `root`. Rejects with a `SetupError` when another holder does not come to an end.
 *
 * @template T
 * @param {string} root
 * @param {() => Promise<T>} work
 * @param {(pid: number) => void} onWait Called once if the lock is held by another process.
 * @returns {Promise<T>}
 */
export async function withLock(root, work, onWait) {
  const file = lockFile(root)
  const deadline = performance.now() + WAIT_MS
  let told = false
  for (let holder; (holder = await take(file)) !== undefined;) {
    if (!isAlive(holder)) {
      await takeOver(file, holder)
      continue
    }
    if (!told) onWait(holder)
    told = true
    if (performance.now() > deadline) {
      throw new SetupError(`process ${holder} has been setting this project up for 15 minutes. If it does not, remove ${file}.`)
    }
    await delay(POLL_MS)
  }
  try {
    return await work()
  } finally {
    await rm(file, { force: true })
  }
}

/** @param {string} root */
export function lockFile(root) {
  const project = createHash('sha256').update(path.resolve(root)).digest('hex').slice(0, 16)
  return path.join(os.tmpdir(), `cmesh-setup-${process.getuid?.() ?? 0}-${project}.lock`)
}

/**
 * Takes the lock and resolves with undefined, or with the process that holds it. Linking a whole file into place cannot be seen
 * half done.
 *
 * @param {string} file
 */
async function take(file) {
  const own = `${file}.${process.pid}.${Math.random().toString(36).slice(2)}`
  await writeFile(own, `${process.pid}\n`, { flag: 'wx', mode: 0o600 })
  try {
    await link(own, file)
    return undefined
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error
    return holderOf(file)
  } finally {
    await rm(own, { force: true })
  }
}

/**
 * Removes the lock of a dead holder. Only one process does that at a time, and looks again before: otherwise the slower of two
 * would remove the lock that the faster has just taken.
 *
 * @param {string} file
 * @param {number} dead
 */
async function takeOver(file, dead) {
  const breaking = `${file}.takeover`
  try {
    await writeFile(breaking, '', { flag: 'wx', mode: 0o600 })
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error
    const since = await stat(breaking).then((found) => found.mtimeMs, () => Date.now())
    if (Date.now() - since > TAKEOVER_MS) await rm(breaking, { force: true })
    await delay(POLL_MS)
    return
  }
  try {
    if (await holderOf(file) === dead) await rm(file, { force: true })
  } finally {
    await rm(breaking, { force: true })
  }
}

/**
 * The holder of the lock; 0, which is nobody, when it was given back meanwhile.
 *
 * @param {string} file
 */
async function holderOf(file) {
  return Number.parseInt(await readFile(file, 'utf8').catch(() => '0'), 10) || 0
}

/** @param {number} pid */
function isAlive(pid) {
  if (pid === 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM'
  }
}
