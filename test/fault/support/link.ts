/**
 * A link that can be cut: a listener on loopback that carries each connection on to another port. `closed` resets what there is and refuses what comes;
 * `silent` keeps connections and carries nothing, so that what was sent arrives late; `deaf` carries nothing of what is answered. Mended, it carries
 * on what it held back.
 */
import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net'

export const CUTS = ['closed', 'silent', 'deaf'] as const
export type Cut = (typeof CUTS)[number]

interface Carried {
  readonly near: Socket
  readonly far: Socket
}

export class Link {
  readonly port: number
  readonly #server: Server
  readonly #target: number
  readonly #carried = new Set<Carried>()
  /** How often it was cut and not mended yet; the last kind holds. */
  readonly #cuts: Cut[] = []

  static async open(target: number): Promise<Link> {
    const server = createServer({ pauseOnConnect: true })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(0, '127.0.0.1', resolve)
    })
    return new Link(server, target)
  }

  private constructor(server: Server, target: number) {
    this.#server = server
    this.#target = target
    this.port = (server.address() as AddressInfo).port
    server.on('connection', near => { this.#carry(near) })
  }

  get connections(): number {
    return this.#carried.size
  }

  cut(kind: Cut): void {
    this.#cuts.push(kind)
    for (const each of this.#carried) this.#hold(each)
  }

  /** Takes one cut of that kind back. */
  mend(kind: Cut): void {
    const at = this.#cuts.lastIndexOf(kind)
    if (at >= 0) this.#cuts.splice(at, 1)
    for (const each of this.#carried) this.#hold(each)
  }

  close(): void {
    this.#server.close()
    for (const { near, far } of this.#carried) {
      near.destroy()
      far.destroy()
    }
  }

  #carry(near: Socket): void {
    const far = connect({ host: '127.0.0.1', port: this.#target })
    const both = { near, far }
    this.#carried.add(both)
    const end = (): void => {
      this.#carried.delete(both)
      near.destroy()
      far.destroy()
    }
    for (const [from, to] of [[near, far], [far, near]] as const) {
      from.setNoDelay(true)
      from.on('error', end)
      from.on('close', end)
      from.on('data', (chunk: Buffer) => {
        if (!to.write(chunk)) {
          from.pause()
          to.once('drain', () => { this.#hold(both) })
        }
      })
    }
    this.#hold(both)
  }

  /** Lets flow what may flow just now. */
  #hold({ near, far }: Carried): void {
    const kind = this.#cuts.at(-1)
    if (kind === 'closed') {
      near.resetAndDestroy()
      far.resetAndDestroy()
      return
    }
    if (kind === 'silent') near.pause()
    else near.resume()
    if (kind === undefined) far.resume()
    else far.pause()
  }
}
