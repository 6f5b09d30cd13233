/** `catch-up`: an empty replica takes a whole log from another over a broker, until it could serve; beside reading its own log back. */
import path from 'node:path'
import { connectNats } from '../providers/bus/nats.ts'
import { HypercoreStateStore } from '../providers/state/hypercore.ts'
import { SILENT_LOG } from '../services/log.ts'
import { Applier } from '../services/state/applier.ts'
import { catchUp as takeBlocks } from '../services/state/catch-up/catch-up.ts'
import type { Block, StateHead } from '../services/state/provider.ts'
import { TransactionIndex } from '../services/state/transaction-index.ts'
import { Child } from './child.ts'
import { residentMb } from './cpu-time.ts'
import type { GiverOpen, GiverReady } from './giver.ts'
import { atMost, type Bench } from './harness.ts'
import { scratch, startBroker } from './processes.ts'

const KEYS = 1_000_000
const KEYS_SMOKE = 2_000

export const catchUp: Bench = {
  name: 'catch-up',
  what: `an empty replica takes ${KEYS.toLocaleString('en')} keys, a transaction each, from another over a broker, until it could serve; against reading its own log back`,
  async run({ smoke, log, scope }) {
    const keys = smoke ? KEYS_SMOKE : KEYS
    const [dir, broker] = await Promise.all([scratch(scope), startBroker(scope)])
    log(`a log of ${keys} keys is written`)
    const login = { url: broker.url, ...broker.core }
    const giver = await Child.start<GiverReady>(scope, {
      entry: new URL('./giver.js', import.meta.url), open: { login, dir: path.join(dir, 'giver'), keys } satisfies GiverOpen, isReady: message => 'seq' in message,
    })
    const bus = await connectNats({ servers: broker.url, ...broker.core })
    scope.defer(() => bus.close())
    const { seq, chain } = giver.ready

    const taker = path.join(dir, 'taker')
    const store = new HypercoreStateStore({ dir: taker })
    scope.defer(() => store.close())
    await store.open(() => undefined)
    let bytes = 0
    let receivedMs = 0
    log('it is taken from there')
    const took = await measured(() => {
      const began = performance.now()
      return takeBlocks({ bus, did: 'the taker', store, log: SILENT_LOG }, {
        trusted: { epoch: 0, seq, chain: Buffer.from(chain, 'hex') },
        onBlock: takerOf(store),
        onProgress: progress => {
          bytes = progress.bytes
          receivedMs = performance.now() - began
        },
      })
    })
    const held = store.space('0x001').size
    if (held !== keys) throw new Error(`${held} of ${keys} keys came over`)
    const residentAfter = residentMb(process.pid) ?? Number.NaN
    await store.close()

    log('it is read back')
    const again = new HypercoreStateStore({ dir: taker })
    scope.defer(() => again.close())
    const read = await measured(() => again.open(takerOf(again)))
    return {
      rounds: 1,
      figures: [
        { name: 'blocks', value: seq, unit: '' },
        { name: 'bytes of blocks', value: bytes / 2 ** 20, unit: 'MB' },
        { name: 'received and checked', value: receivedMs, unit: 'ms' },
        { name: 'could serve', value: took.ms, unit: 'ms' },
        { name: 'CPU of who takes', value: took.cpuMs, unit: 'ms' },
        { name: 'own log read back', value: read.ms, unit: 'ms' },
        { name: 'CPU of that', value: read.cpuMs, unit: 'ms' },
        ...(Number.isFinite(residentAfter) ? [{ name: 'resident, who takes', value: residentAfter, unit: 'MB' }] : []),
      ],
      ratios: [atMost('catch-up/ms', took.ms, 10_000)],
      leftOut: ['a network between the two', 'finding out what a quorum signed', 'contracts to compile', 'files that are not in the page cache'],
    }
  },
}

/** What State does with a block that was executed elsewhere. */
function takerOf(store: HypercoreStateStore): (block: Block) => void {
  const nothing = (): void => undefined
  const applier = new Applier({
    store, index: new TransactionIndex(), handlers: {}, verifyMember: () => false, log: SILENT_LOG, onApplied: nothing, onDurable: nothing, onHalt: nothing,
  })
  let before: StateHead = store.head
  return block => {
    applier.restore(block, { before, skip: 0 })
    before = store.head
  }
}

async function measured(work: () => Promise<unknown>): Promise<{ readonly ms: number, readonly cpuMs: number }> {
  const [began, cpu] = [performance.now(), process.cpuUsage()]
  await work()
  const { user, system } = process.cpuUsage(cpu)
  return { ms: performance.now() - began, cpuMs: (user + system) / 1_000 }
}
