/** One replica's state without consensus: the real applier over a store, with entries of the log made by hand. */
import type { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { encodePackage, packageManifest, signPackage, type ContractManifest, type ContractPackage } from '../../cmtp/package.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { MockStateStore } from '../../providers/state/mock.ts'
import type { LogEntry } from '../../services/consensus/provider.ts'
import { encodeGenesis, type Genesis } from '../../services/contracts/genesis.ts'
import { installDeployed } from '../../services/contracts/deployments.ts'
import { mayOrder, readMembers } from '../../services/contracts/members.ts'
import { Metering, type MeterRecord } from '../../services/contracts/metering.ts'
import { ContractTransactions } from '../../services/contracts/transactions.ts'
import { IdentityTransactions } from '../../services/iam/transactions.ts'
import { NameTransactions } from '../../services/registrar/transactions.ts'
import { Applier, type ApplierParts } from '../../services/state/applier.ts'
import { encodeBatch, NO_PROOF, verifyBatch, type Transaction } from '../../services/state/batch.ts'
import type { Block, ReadBack, StateStore, TransactionRecord } from '../../services/state/provider.ts'
import { SYSTEM_SPACE } from '../../services/state/transaction.ts'
import { TransactionIndex, type Outcome } from '../../services/state/transaction-index.ts'
import { keptLog, memberOf, type KeptLog } from './mesh.ts'

/** The member of every replica made here, and whoever operates its mesh. */
export const MEMBER = KeyPair.generate()
export const OPERATOR = KeyPair.generate()
export const START_MS = 1_800_000_000_000

/** How gas is counted where a test does not say. */
export const METER: MeterRecord = { ...new WasmEngine().meter, transactionGas: 20_000_000 }

const NOTHING = Buffer.alloc(0)
let ids = 0

/** A transaction of the operator, good for a minute, under an id of its own. */
export function transactionOf(fqmn: string, fields: Partial<Transaction> = {}): Transaction {
  return {
    id: (++ids).toString(16).padStart(32, '0'), sub: OPERATOR.did, sid: 'session-1', jti: 'token-01', grantSeq: 0, fqmn, body: NOTHING,
    deadlineMs: START_MS + 60_000, proof: NO_PROOF, ...fields,
  }
}

/** The message of a batch as it is ordered. */
export function batchOf(
  transactions: readonly Transaction[], { by = MEMBER, proposedMs = START_MS }: { readonly by?: KeyPair, readonly proposedMs?: number } = {},
): Uint8Array {
  return encodeBatch({ member: by.did, proposedMs, transactions }, bytes => by.sign(bytes))
}

export function entryOf(seq: number, data: Uint8Array, epoch = 0): LogEntry {
  return { epoch, seq, id: seq.toString(16).padStart(32, 'e'), data }
}

/** Deploys what is given at genesis addresses. */
export function genesisTransaction(contracts: Readonly<Record<string, Uint8Array>> = {}, genesis: Partial<Genesis> = {}): Transaction {
  const body = encodeGenesis({
    operator: OPERATOR.did, members: [MEMBER.did],
    contracts: Object.entries(contracts).map(([address, module]) => ({ address, pkg: packageOf(module) })), meter: METER, ...genesis,
  })
  return transactionOf(`0xSW:${SYSTEM_SPACE}:genesis`, { body })
}

/** What is told of a package beside its module. */
export type PackageFacts = Partial<Omit<ContractPackage, 'module' | 'manifest'>> & { readonly manifest?: Partial<ContractManifest> }

export function packageOf(module: Uint8Array, { manifest, ...facts }: PackageFacts = {}): Buffer {
  return encodePackage({
    salt: Buffer.alloc(16), strategy: 'replaceable', init: NOTHING, ...facts, module,
    manifest: packageManifest({ name: 'made', version: '1.0.0', compiler: 'hand', sdk: '1', ...manifest }),
  })
}

/** The body of a deployment. */
export function deploymentOf(module: Uint8Array, facts?: PackageFacts, by = OPERATOR): Buffer {
  return signPackage(packageOf(module, facts), { purpose: 'deploy' }, by)
}

/** The body of a replacement that makes `version`. */
export function replacementOf(target: string, version: number, module: Uint8Array, facts?: PackageFacts, by = OPERATOR): Buffer {
  return signPackage(packageOf(module, facts), { purpose: 'replace', target, version }, by)
}

export interface Replica {
  readonly store: StateStore
  readonly engine: WasmEngine
  readonly index: TransactionIndex
  readonly applier: Applier
  readonly log: KeptLog
  readonly applied: Block[]
  readonly durable: { readonly block: Block, readonly outcomes: readonly Outcome[] }[]
  readonly halts: CMeshError[]
  /** Applies the next entry of the log; gives the records of its block. */
  next(data: Uint8Array): readonly TransactionRecord[]
}

type ReplicaParts = Partial<ApplierParts> & {
  readonly engine?: WasmEngine
  /** Told each block that the store reads back. */
  readonly restored?: (block: Block, at: ReadBack) => void
}

/** An open replica. What its store reads back is taken up first. */
export async function replica(
  { store = new MockStateStore(), engine = new WasmEngine(), restored, ...parts }: ReplicaParts = {},
): Promise<Replica> {
  const index = new TransactionIndex()
  const log = keptLog()
  const applied: Block[] = []
  const durable: Replica['durable'] = []
  const halts: CMeshError[] = []
  const { verify } = memberOf(MEMBER)
  const applier = new Applier({
    store, index, log,
    handlers: { S: new ContractTransactions({ engine, space: name => store.space(name) }), R: new NameTransactions(), I: new IdentityTransactions() },
    // Before genesis, for tests that need none, whatever `MEMBER` signed.
    verifyMember: (batch, bytes) => {
      const system = store.space(SYSTEM_SPACE)
      const counts = (readMembers(system).length === 0 && batch.member === MEMBER.did) || mayOrder(system, batch)
      return counts && verifyBatch(bytes, batch, verify)
    },
    onApplied: block => { applied.push(block) },
    onDurable: (block, outcomes) => { durable.push({ block, outcomes }) },
    onHalt: error => { halts.push(error) },
    ...parts,
  })
  await store.open((block, at) => {
    applier.restore(block, at)
    restored?.(block, at)
  })
  const { seq, timeMs } = store.head
  if (seq > 1) await store.readBack?.(seq - 1, seq - 1, before => { applier.stepped(timeMs - before.timeMs) })
  const system = store.space(SYSTEM_SPACE)
  const metering = new Metering(engine, system)
  if (metering.begun) metering.at(store.head.seq + 1)
  installDeployed(engine, system, name => store.space(name))
  return {
    store, engine, index, applier, log, applied, durable, halts,
    next: data => {
      applier.apply(entryOf(store.head.seq + 1, data))
      return applied.at(-1)?.transactions ?? []
    },
  }
}

/** Moves log time there by empty batches, each of which takes a step. */
export function moveTo({ store, next }: Pick<Replica, 'store' | 'next'>, timeMs: number): void {
  while (store.head.timeMs < timeMs) next(batchOf([], { proposedMs: timeMs }))
}

/** What a transaction answered, as JSON. */
export function outputOf(record: Pick<TransactionRecord, 'output'> | undefined): unknown {
  return record === undefined || record.output.length === 0 ? undefined : JSON.parse(Buffer.from(record.output).toString('utf8'))
}
