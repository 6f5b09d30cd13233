/**
 * The directory of a managed nats-server: its files, written whole and for one user alone, the port it had last, and the logs it put
 * aside. What the server itself keeps there, its streams and the accounts it stored, is not touched.
 */
import { chmod, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import path from 'node:path'
import { BROKER_FILES, BROKER_LIMITS } from './config.ts'

export class BrokerDirectory {
  readonly #dir: string

  constructor(dir: string) {
    this.#dir = dir
  }

  async make(): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 })
    await chmod(this.#dir, 0o700)
  }

  /** The port that a server had here, where it is free. */
  async lastPort(): Promise<number | undefined> {
    const port = Number(await readFile(path.join(this.#dir, BROKER_FILES.port), 'utf8').catch(() => ''))
    return Number.isInteger(port) && port > 0 && port < 65_536 && await isFree(port) ? port : undefined
  }

  async rememberPort(port: number): Promise<void> {
    await this.write(BROKER_FILES.port, `${port}\n`)
  }

  /** Whole or not at all, readable by nobody else. */
  async write(name: string, text: string): Promise<void> {
    const target = path.join(this.#dir, name)
    await rm(`${target}.part`, { force: true })
    await writeFile(`${target}.part`, text, { mode: 0o600, flag: 'wx' })
    await rename(`${target}.part`, target)
  }

  /** nats-server before 2.10 puts full logs aside and never removes one. */
  async removeOldLogs(): Promise<void> {
    const aside = (await readdir(this.#dir)).filter((name) => name.startsWith(`${BROKER_FILES.log}.`)).sort()
    await Promise.all(aside.slice(0, -BROKER_LIMITS.logFiles).map((name) => rm(path.join(this.#dir, name), { force: true })))
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen({ host: '127.0.0.1', port, exclusive: true }, () => probe.close(() => resolve(true)))
  })
}
