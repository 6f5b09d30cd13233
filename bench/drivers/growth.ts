/**
 * Drives reads and writes of a contract that has many keys, inside the node: State with its log on disk, its order and its engine, without
 * a broker, a client or a token on the way. The keys come there by the order, each put by the contract.
 */
import { parseFqmn } from '../../cmtp/fqmn.ts'
import type { AuthContext } from '../../services/iam/guard.ts'
import { Passage } from '../../services/router/passage.ts'
import { inParallel } from '../harness.ts'
import { keyOf, valueOf } from '../store-contract.ts'
import type { Driver } from './index.ts'
import { CONTRACT, ownState, type OwnStateOptions } from './own-state.ts'

export interface GrowthOptions extends OwnStateOptions {
  readonly keys: number
}

const NOTHING = new Uint8Array(0)
/** Writes under way, while keys are filled and while writes are measured. */
const AT_ONCE = 512
/** Distinct keys that are asked for, spread over all of them: as many however many there are. */
const ASKED = 1_000

/** Two ways: `read`, uncached views, and `write`. */
export async function openGrowth(options: GrowthOptions): Promise<Driver> {
  const { state, start } = ownState(options)
  await start()
  const { keys } = options
  const put = (key: number, value: number): Promise<void> => state.orderOwn(`0xSW:${CONTRACT}:put`, [keyOf(key), valueOf(value)])
  await inParallel(keys, AT_ONCE, i => put(i, i))

  const asked = Array.from({ length: Math.min(ASKED, keys) }, (_, i) => Math.floor(i * keys / Math.min(ASKED, keys)))
  const routes = asked.map(key => parseFqmn(`0xS:${CONTRACT}:get:["${keyOf(key)}"]`))
  const envelope = { receipt: 'hash', token: Buffer.alloc(0), deadlineMs: Date.now() + 3_600_000, hops: 0 } as const
  const origin = { sid: '', replySubject: '' }
  const notes = { gas: 0n, before: undefined, after: undefined }
  const passages = routes.map(route => new Passage(envelope, new Uint8Array(16), NOTHING, NOTHING, origin, route, 0))
  return {
    burst: async (count, way) => {
      if (way === 'write') return inParallel(count, AT_ONCE, i => put(asked[i % asked.length] as number, i))
      for (let i = 0; i < count; i++) {
        const reply = await state.read(passages[i % passages.length] as Passage, AUTH, notes)
        if (reply.status !== 200) throw new Error(`a view gave ${reply.status}`)
      }
    },
    close: () => state.stop(),
  }
}

/** Opens the log that a growth driver has left, once: `burst` resolves when State is open. */
export function openReopen(options: GrowthOptions): Promise<Driver> {
  const { state, start } = ownState(options)
  return Promise.resolve({ burst: start, close: () => state.stop() })
}

/** Who is asked by this process itself. */
const AUTH = { sub: '' } as unknown as AuthContext
