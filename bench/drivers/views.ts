/**
 * Drives views inside the node: the mesh as a node composes it, built in this process, asked without a client and without a
 * message on the wire. Three ways in, each with all that comes behind it.
 */
import { encodePackage, packageManifest, signPackage } from '../../cmtp/package.ts'
import { parseFqmn, type Route } from '../../cmtp/fqmn.ts'
import { encodeRequest, ReplyFrame } from '../../cmtp/frame.ts'
import { encodeHeaders } from '../../cmtp/headers.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { login, type Session } from '../../cmtp/identity/login.ts'
import { makeRequestProof, PROOF_HEADER } from '../../cmtp/identity/request-proof.ts'
import { formatMessageId, MessageIds } from '../../cmtp/message-id.ts'
import { closeBuses, openBuses } from '../../node/bus.ts'
import { resolveConfig } from '../../node/config.ts'
import { genesisOf } from '../../node/genesis.ts'
import { buildMesh, type Mesh } from '../../node/mesh.ts'
import type { AuthContext } from '../../services/iam/guard.ts'
import { SILENT_LOG } from '../../services/log.ts'
import { Passage } from '../../services/router/passage.ts'
import { inParallel } from '../harness.ts'
import { keyOf, valueOf } from '../store-contract.ts'
import type { Driver } from './index.ts'

/**
 * `service`: the State service's read, which confirms the caller. `endpoint`: the wrapper around it, which checks the token,
 * authorises the address and adds a layer. `door`: from the request's frame to the reply's, sealed.
 */
export type ViewsWay = 'service' | 'endpoint' | 'door'

export interface ViewsOptions {
  /** Where the mesh keeps its data; the driver's own. */
  readonly dir: string
  /** The store contract's module. */
  readonly module: Uint8Array
  readonly keys: number
  /** Whether results are cached. */
  readonly cache: boolean
}

const NOTHING = new Uint8Array(0)
/** Writes under way while the keys are filled. */
const AT_ONCE = 512
/** Views between two turns of the event loop. */
const TURN = 256
/** Frames are made once and asked for as long as the benchmark runs. */
const DEADLINE_MS = 290_000

export async function openViews({ dir, module, keys, cache }: ViewsOptions): Promise<Driver> {
  const identity = KeyPair.generate()
  const given = { 'data.dir': dir, 'operator': identity.did, ...(!cache && { 'state.viewCache': 0 }) }
  const config = resolveConfig({ arguments: given })
  const buses = await openBuses(config, SILENT_LOG)
  const mesh = buildMesh({ config, identity, buses, log: SILENT_LOG, onHalt: error => { throw error } })
  await start(mesh, identity)

  const ids = new MessageIds()
  const session = await login({ identity, mesh: mesh.node, send: (action, body) => mesh.iam.handle(action, body) })
  const token = Buffer.from(session.token)
  const auth = await mesh.guard.check(token, session.sid)
  const frameOf = (fqmn: string, body: Uint8Array): Buffer => encodeRequest({ id: ids.next(), fqmn, token, deadlineMs: Date.now() + DEADLINE_MS, receipt: 'hash', body })
  const signedFrameOf = (fqmn: string, body: Uint8Array): Buffer => {
    const [id, deadlineMs] = [ids.next(), Date.now() + DEADLINE_MS]
    const headers = encodeHeaders([[PROOF_HEADER, makeRequestProof({ id: formatMessageId(id), fqmn, body, deadlineMs, token }, identity)]])
    return encodeRequest({ id, fqmn, token, deadlineMs, receipt: 'hash', headers, body })
  }
  const ask = async (fqmn: string, body: Uint8Array, frame = frameOf(fqmn, body)): Promise<ReplyFrame> => {
    const reply = ReplyFrame.decode(await mesh.frontDoor.route(frame, session.sid))
    if (reply.status >= 400) throw new Error(`${fqmn} gave ${reply.status}: ${reply.body.toString()}`)
    return reply
  }

  const manifest = packageManifest({ name: 'store', version: '1.0.0', compiler: 'assemblyscript', sdk: '1' })
  const pkg = encodePackage({ salt: Buffer.alloc(16), strategy: 'immutable', manifest, init: NOTHING, module })
  const signed = signPackage(pkg, { purpose: 'deploy' }, identity)
  const { address } = JSON.parse((await ask('0xSW:0x000:deploy', signed, signedFrameOf('0xSW:0x000:deploy', signed))).body.toString()) as { readonly address: string }
  await inParallel(keys, AT_ONCE, i => ask(`0xSW:${address}:put`, Buffer.from(`["${keyOf(i)}","${valueOf(i)}"]`)))

  const routes = Array.from({ length: keys }, (_, i) => parseFqmn(`0xS:${address}:get:["${keyOf(i)}"]`))
  const frames = routes.map(route => frameOf(route.text, NOTHING))
  const ways = waysOf(mesh, session, token, auth)
  return {
    burst: async (count, way) => {
      const one = ways[way as ViewsWay]
      for (let i = 0; i < count; i++) {
        const answer = one(routes[i % keys] as Route, frames[i % keys] as Buffer)
        // A promise comes once in a minute, when the guard verifies the token again.
        const status = typeof answer === 'number' ? answer : await answer
        if (status !== 200) throw new Error(`a view gave ${status}`)
        // As a node reads its socket between frames: what they left for the audit log is appended then.
        if (i % TURN === 0) await new Promise(resolve => { setImmediate(resolve) })
      }
    },
    close: async () => {
      await mesh.state.stop()
      await mesh.events.stop()
      await mesh.batcher.stop()
      await mesh.iam.stop()
      mesh.feed.stop()
      mesh.watermark.close()
      await mesh.lastClaim.close()
      await mesh.watchdog.stop()
      await closeBuses(buses)
    },
  }
}

/** As a node starts them, without the parts that are for clients. */
async function start({ iam, feed, batcher, watchdog, events, engine, state, guard, node, dispatcher, endpoints }: Mesh, operator: KeyPair): Promise<void> {
  await feed.start()
  await iam.start()
  await batcher.start()
  watchdog.start()
  await events.start()
  await state.start(() => genesisOf({ operator: operator.did, node, meter: { ...engine.meter, transactionGas: 20_000_000 } }))
  guard.grantsChanged()
  dispatcher.attach('state', endpoints.state.call)
}

type Way = (route: Route, frame: Buffer) => number | Promise<number>

function waysOf(mesh: Mesh, { sid }: Session, token: Buffer, auth: AuthContext): Record<ViewsWay, Way> {
  const origin = { sid, replySubject: '' }
  const notes = { gas: 0n, before: undefined, after: undefined }
  const envelope = { receipt: 'hash', token, deadlineMs: Date.now() + DEADLINE_MS, hops: 0 } as const
  const id = new Uint8Array(16)
  const passage = (route: Route): Passage => new Passage(envelope, id, NOTHING, NOTHING, origin, route, 0)
  // The router makes one for each request; the State service adds nothing to it.
  const one = passage(parseFqmn('0xS:0x000'))
  return {
    service: route => {
      one.route = route
      const reply = mesh.state.read(one, auth, notes)
      return reply instanceof Promise ? reply.then(late => late.status) : reply.status
    },
    endpoint: route => {
      const reply = mesh.endpoints.state.call(passage(route))
      return reply instanceof Promise ? reply.then(late => late.status) : reply.status
    },
    door: (_, frame) => {
      let status = 0
      let late: ((status: number) => void) | undefined
      mesh.frontDoor.handle(frame, origin, reply => {
        status = reply.readUInt16BE(6)
        late?.(status)
      })
      return status === 0 ? new Promise(resolve => { late = resolve }) : status
    },
  }
}
