/**
 * Drives the mix made wide: many sessions of as many identities, many addresses, many names. The sessions share one connection,
 * as those of a gateway do; each is an SDK client of its own. Who asks what is drawn at random, so that no session has asked
 * its address lately.
 */
import { connect, KeyPair, type MeshClient } from '../../client/index.ts'
import { inParallel } from '../harness.ts'
import { MIX, MIX_TARGET } from '../mix.ts'
import type { Driver } from './index.ts'

export interface WideOptions {
  readonly url: string
  readonly mesh: string
  readonly sessions: number
  /** Different addresses: one view with as many different arguments. */
  readonly addresses: number
  /** Registered here, by as many of the identities as the quota of names asks for. */
  readonly names: number
}

/** Names that one identity registers; the mesh's own quota. */
const NAMES_EACH = 100
/** Handshakes and registrations under way at once. */
const AT_ONCE = 64

export async function openWide({ url, mesh, sessions, addresses, names }: WideOptions): Promise<Driver> {
  const gateway = await connect({ url, mesh, identity: KeyPair.generate(), name: 'cmesh bench', timeoutMs: 30_000 })
  const clients = new Array<MeshClient>(sessions)
  await inParallel(sessions, AT_ONCE, async i => { clients[i] = await gateway.as(KeyPair.generate()) })
  await inParallel(sessions, AT_ONCE, i => (clients[i] as MeshClient).call(MIX[0]))

  const nameAt = (i: number): string => `bench-${i}.mcom`
  await inParallel(names, AT_ONCE, i => (clients[Math.floor(i / NAMES_EACH)] as MeshClient).register(nameAt(i), MIX_TARGET))

  const random = randomNumbers()
  const views = Array.from({ length: addresses }, (_, n) => `0xS:0x001:hello_world:["${n}"]`)
  const resolved = Array.from({ length: names }, (_, n) => `0xR:${nameAt(n)}`)
  const asks = [
    (index: number) => views[(index / 3 | 0) % addresses] as string,
    () => resolved[random() % names] as string,
    () => MIX[2],
  ]
  shuffle(views, random)
  return {
    operation: index => (clients[random() % sessions] as MeshClient).call((asks[index % 3] as (index: number) => string)(index)),
    close: () => gateway.close(),
  }
}

/** Marsaglia's xorshift32: the same numbers in every run, at no cost worth counting. */
function randomNumbers(): () => number {
  let state = 0x2545_f491
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
}

/** Fisher and Yates. */
function shuffle(texts: string[], random: () => number): void {
  for (let i = texts.length - 1; i > 0; i--) {
    const j = random() % (i + 1)
    ;[texts[i], texts[j]] = [texts[j] as string, texts[i] as string]
  }
}
