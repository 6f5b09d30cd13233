/**
 * Entry point of a process that fills a log, a key and a transaction each, 256 a block, and gives its blocks to who asks: the other end of
 * `catch-up`.
 */
import { randomBytes } from 'node:crypto'
import { KeyPair } from '../cmtp/identity/keys.ts'
import { connectNats } from '../providers/bus/nats.ts'
import { HypercoreStateStore } from '../providers/state/hypercore.ts'
import { SILENT_LOG } from '../services/log.ts'
import { encodeBatch, NO_PROOF, type Transaction } from '../services/state/batch.ts'
import { BlockServer } from '../services/state/catch-up/server.ts'
import type { TransactionRecord } from '../services/state/provider.ts'
import type { RawLogin } from './raw/requester.ts'
import { keyOf, valueOf } from './store-contract.ts'

export interface GiverOpen {
  readonly login: RawLogin
  readonly dir: string
  readonly keys: number
}

export interface GiverReady {
  readonly seq: number
  /** In hex. */
  readonly chain: string
}

const PER_BLOCK = 256
const CONTRACT = '0x001'
const START_MS = 1_800_000_000_000

process.once('message', (open: GiverOpen) => { void serve(open) })
process.on('SIGINT', () => undefined)

async function serve({ login: { url, ...login }, dir, keys }: GiverOpen): Promise<void> {
  const store = new HypercoreStateStore({ dir })
  const bus = await connectNats({ servers: url, ...login })
  const end = async (): Promise<void> => {
    await bus.close()
    await store.close()
    process.exit()
  }
  process.once('disconnect', () => { void end() })
  process.once('SIGTERM', () => { void end() })
  await store.open(() => undefined)
  const member = KeyPair.generate()
  for (let first = 0; first < keys; first += PER_BLOCK) await fill(store, member, first, Math.min(keys, first + PER_BLOCK))
  new BlockServer({ bus, did: member.did, replica: store.replica, head: () => store.head, log: SILENT_LOG }).start()
  await bus.flush()
  process.send?.({ seq: store.head.seq, chain: Buffer.from(store.head.chain).toString('hex') } satisfies GiverReady)
}

/** One block as the applier makes it of a batch. */
async function fill(store: HypercoreStateStore, member: KeyPair, first: number, end: number): Promise<void> {
  const transactions: Transaction[] = []
  const records: TransactionRecord[] = []
  for (let index = first; index < end; index++) {
    const id = randomBytes(16).toString('hex')
    const value = new Uint8Array(Buffer.from(valueOf(index)))
    const args = JSON.stringify([keyOf(index), valueOf(index)])
    transactions.push({
      id, sub: member.did, sid: 'session-01', jti: 'token-0001', grantSeq: 1, fqmn: `0xSW:${CONTRACT}:put:${args}`, body: new Uint8Array(0),
      deadlineMs: START_MS, proof: NO_PROOF,
    })
    records.push({ id, status: 200, gas: 1_000n, writes: [{ space: CONTRACT, key: keyOf(index), value }], events: [], output: Buffer.from('null') })
    store.space(CONTRACT).set(keyOf(index), value)
  }
  const message = encodeBatch({ member: member.did, proposedMs: START_MS, transactions }, bytes => member.sign(bytes))
  await store.commit({ epoch: 0, seq: store.head.seq + 1, timeMs: START_MS, message, transactions: records })
}
