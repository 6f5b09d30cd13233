/**
 * Where a command reaches the supervisor: a port on loopback, and a token that only who may read `<dir>/cluster/control.json` knows. One line
 * of JSON asks, lines of JSON answer: `{step}` as it goes on, then `{done}` or `{error}`.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { rename, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { clusterDir } from './plan.ts'
import type { Part } from './supervisor.ts'

export interface Controlled {
  readonly parts: readonly Part[]
  restart: (onStep: (step: string) => void) => Promise<void>
}

interface Question {
  readonly token?: unknown
  readonly command?: unknown
}

const FILE = 'control.json'
/** Longest question, in bytes, and how long it may take, in ms. */
const QUESTION_BYTES = 1_024
const QUESTION_MS = 5_000

export class Control {
  readonly #file: string
  readonly #controlled: Controlled
  readonly #token = randomBytes(32).toString('base64url')
  readonly #sockets = new Set<Socket>()
  readonly #server: Server

  constructor(dir: string, controlled: Controlled) {
    this.#file = path.join(clusterDir(dir), FILE)
    this.#controlled = controlled
    this.#server = createServer(socket => { this.#hear(socket) })
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(0, '127.0.0.1', resolve)
    })
    const { port } = this.#server.address() as AddressInfo
    await writeFile(`${this.#file}.new`, `${JSON.stringify({ port, token: this.#token })}\n`, { mode: 0o600 })
    await rename(`${this.#file}.new`, this.#file)
  }

  async stop(): Promise<void> {
    await rm(this.#file, { force: true })
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #hear(socket: Socket): void {
    this.#sockets.add(socket)
    let text = ''
    socket.setEncoding('utf8').setTimeout(QUESTION_MS, () => { socket.destroy() })
    socket.on('error', () => { socket.destroy() })
    socket.on('close', () => { this.#sockets.delete(socket) })
    socket.on('data', (chunk: string) => {
      text += chunk
      const end = text.indexOf('\n')
      if (end < 0 && text.length > QUESTION_BYTES) socket.destroy()
      if (end < 0) return
      socket.removeAllListeners('data').setTimeout(0)
      void this.#answer(socket, text.slice(0, end))
    })
  }

  async #answer(socket: Socket, line: string): Promise<void> {
    const say = (value: object): void => { if (socket.writable) socket.write(`${JSON.stringify(value)}\n`) }
    try {
      const { token, command } = JSON.parse(line) as Question
      if (!this.#isToken(token)) return
      if (command === 'restart') await this.#controlled.restart(step => { say({ step }) })
      say({ done: true, parts: this.#controlled.parts })
    } catch (error) {
      say({ error: CMeshError.from(error, 'the supervisor').toWire() })
    } finally {
      socket.end()
    }
  }

  #isToken(given: unknown): boolean {
    const [one, other] = [Buffer.from(String(given)), Buffer.from(this.#token)]
    return one.length === other.length && timingSafeEqual(one, other)
  }
}
