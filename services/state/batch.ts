/**
 * The ordered message: a batch of transactions, made and signed by the member that proposes it. Replicas execute batches
 * signed by members only; what a caller was allowed to do was checked by that member's guard before, and is checked again
 * where it is ordered (`authority.ts`). Canonical bytes
 * (binary.ts); they open with a text of their own, so that no other signed thing of the mesh can pass for a batch.
 *
 *   batch       'cmesh/batch' · version · member (UTF-8) · proposedMs · count · transaction… · signature (64)
 *   transaction id (16) · sub · sid · jti (table) · grantSeq · fqmn (table) · deadlineMs · body · proof · in version 4: condition
 *
 * The signature is over every byte before it. Version 3 is written, and 4 where a transaction has a condition. Versions 1 and 2 are read but not
 * written any more: 1 has no proofs, and both move the log's time as far as they say (`log-time.ts`).
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { PROOF_BYTES } from '../../cmtp/identity/request-proof.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { BOUND, ByteReader, ByteWriter, type Refuse } from './binary.ts'

const MAGIC = Buffer.from('cmesh/batch')
const VERSION = 4
/** The version without proofs, the first whose time goes by steps, and the first with conditions. */
const PLAIN_VERSION = 1
const STEPS_VERSION = 3
const CONDITION_VERSION = 4
const CONDITION_BYTES = 32
const SIGNATURE_BYTES = 64
const LEAST_TRANSACTION = 23

/** Of a transaction that needs no signature of its own. */
export const NO_PROOF: Uint8Array = new Uint8Array(0)

/** What one batch may hold. A full request fits with all that is added to it: a frame has the same bound. */
export const BATCH_LIMITS = Object.freeze({ transactions: 256, bytes: LIMITS.frameBytes })

/** An upper bound of what a batch takes without its transactions; `transactionBytes` comes on top for each. */
export function batchOverheadBytes(member: string): number {
  return MAGIC.length + 1 + BOUND.text(member) + 2 * BOUND.integer + SIGNATURE_BYTES
}

export interface Transaction {
  /** 32 lower-case hex digits; the message id of the request. */
  readonly id: string
  /** Who calls: a DID. */
  readonly sub: string
  readonly sid: string
  readonly jti: string
  /** Sequence of the grants that the guard checked against. */
  readonly grantSeq: number
  /** Final address, names resolved. */
  readonly fqmn: string
  readonly body: Uint8Array
  /** Absolute, ms since 1970. */
  readonly deadlineMs: number
  /** The caller's own signature over this request: SHA-256 of its token (32) and Ed25519 (64), else `NO_PROOF`. */
  readonly proof: Uint8Array
  /** SHA-256 of the code that the contract has to run; missing where it may be any. */
  readonly condition?: Uint8Array
}

export interface BatchContent {
  /** DID of the proposing member. */
  readonly member: string
  /** The proposing member's clock, ms since 1970: log time follows from it. */
  readonly proposedMs: number
  /** 0 to `BATCH_LIMITS.transactions`; none only moves log time on. */
  readonly transactions: readonly Transaction[]
}

export interface Batch extends BatchContent {
  /** 64 bytes of Ed25519, unchecked: see `verifyBatch`. */
  readonly signature: Uint8Array
}

/** An upper bound of what one transaction adds to a batch, in bytes. */
export function transactionBytes(transaction: Transaction): number {
  const { sub, sid, jti, fqmn, body, proof, condition = NO_PROOF } = transaction
  const texts = BOUND.text(sub) + BOUND.text(sid) + BOUND.text(jti) + BOUND.text(fqmn)
  return BOUND.id + texts + 2 * BOUND.integer + BOUND.bytes(body.length) + BOUND.bytes(proof.length) + BOUND.bytes(condition.length)
}

/**
 * The bytes of a batch, the caller's to keep. `sign` gets all but the signature and gives the 64 bytes of it. Throws
 * `CMESH_CONSENSUS_BATCH` for what has no encoding or goes past `BATCH_LIMITS`.
 */
export function encodeBatch(content: BatchContent, sign: (bytes: Uint8Array) => Uint8Array): Uint8Array {
  const refuse = (_: number, expected: string): never => refused(`it holds a value that is not ${expected}`)
  const { member, proposedMs, transactions } = content
  if (transactions.length > BATCH_LIMITS.transactions) {
    refused(`it has ${transactions.length} transactions, at most ${BATCH_LIMITS.transactions} are allowed`)
  }
  let size = batchOverheadBytes(member)
  for (const transaction of transactions) size += transactionBytes(transaction)
  const out = new ByteWriter(size, refuse)
  out.raw(MAGIC)
  const version = transactions.some(({ condition }) => condition !== undefined) ? CONDITION_VERSION : STEPS_VERSION
  out.u8(version)
  out.utf8(member)
  out.integer(proposedMs)
  out.integer(transactions.length)
  for (const transaction of transactions) {
    out.id(transaction.id)
    out.reference(transaction.sub)
    out.reference(transaction.sid)
    out.reference(transaction.jti)
    out.integer(transaction.grantSeq)
    out.reference(transaction.fqmn)
    out.integer(transaction.deadlineMs)
    out.bytes(transaction.body)
    if (!isProofLength(transaction.proof.length)) refuse(0, `a proof of 0 or ${PROOF_BYTES} bytes`)
    out.bytes(transaction.proof)
    if (version < CONDITION_VERSION) continue
    const { condition = NO_PROOF } = transaction
    if (transaction.condition !== undefined && condition.length !== CONDITION_BYTES) refuse(0, `a condition of ${CONDITION_BYTES} bytes`)
    out.bytes(condition)
  }
  const signature = sign(out.written())
  if (signature.length !== SIGNATURE_BYTES) refused(`its signature has ${signature.length} bytes, not ${SIGNATURE_BYTES}`)
  out.raw(signature)
  const bytes = out.written()
  if (bytes.length > BATCH_LIMITS.bytes) refused(`it has ${bytes.length} bytes, at most ${BATCH_LIMITS.bytes} are allowed`)
  return bytes
}

/**
 * The batch in `bytes`; bodies, proofs and signature are views into them. Says nothing about who signed it. Throws
 * `CMESH_CONSENSUS_BATCH` with the offset for anything that `encodeBatch` of this version or those before does not write.
 */
export function decodeBatch(bytes: Uint8Array): Batch {
  const refuse = (offset: number, expected: string): never => refused(`byte ${offset} is not ${expected}`, offset)
  if (bytes.length > BATCH_LIMITS.bytes) refused(`it has ${bytes.length} bytes, at most ${BATCH_LIMITS.bytes} are allowed`)
  const signed = bytes.length - SIGNATURE_BYTES
  if (signed < MAGIC.length + 1) refuse(bytes.length, `a batch of at least ${MAGIC.length + 1 + SIGNATURE_BYTES} bytes`)
  const from = new ByteReader(bytes, refuse, signed)
  if (!MAGIC.equals(from.raw(MAGIC.length, 'the start of a batch'))) refuse(0, 'the start of a batch')
  const version = from.u8('a version')
  if (version < PLAIN_VERSION || version > VERSION) refuse(MAGIC.length, `version ${PLAIN_VERSION} to ${VERSION} of a batch`)
  const member = from.utf8('the member')
  const proposedMs = from.integer('the time of the proposal')
  const countAt = from.offset
  const least = LEAST_TRANSACTION + (version === PLAIN_VERSION ? 0 : version < CONDITION_VERSION ? 1 : 2)
  const count = from.count(least, 'a count of transactions')
  if (count > BATCH_LIMITS.transactions) refuse(countAt, `a count of at most ${BATCH_LIMITS.transactions} transactions`)
  const transactions = new Array<Transaction>(count)
  for (let i = 0; i < count; i++) transactions[i] = readTransaction(from, version, refuse)
  from.done()
  if (version >= CONDITION_VERSION && transactions.every(({ condition }) => condition === undefined)) refuse(MAGIC.length, 'the version of a batch without conditions')
  return { member, proposedMs, transactions, signature: bytes.subarray(signed) }
}

/**
 * Of bytes that are no batch to this version: what a batch of a later one says of itself, where they are such. Every version begins with the
 * same text, its number and its member, and ends with the signature over all before.
 */
export function newerBatch(bytes: Uint8Array): { readonly version: number, readonly batch: Batch } | undefined {
  const refuse = (offset: number, expected: string): never => refused(`byte ${offset} is not ${expected}`, offset)
  const signed = bytes.length - SIGNATURE_BYTES
  const version = bytes[MAGIC.length] ?? 0
  if (signed <= MAGIC.length || version <= VERSION || !MAGIC.equals(bytes.subarray(0, MAGIC.length))) return undefined
  try {
    const from = new ByteReader(bytes, refuse, signed)
    from.raw(MAGIC.length + 1, 'the start of a batch')
    return { version, batch: { member: from.utf8('the member'), proposedMs: 0, transactions: [], signature: bytes.subarray(signed) } }
  } catch {
    return undefined
  }
}

/** The newest version of a batch that is read here. */
export const BATCH_VERSION = VERSION

/** Whether the log's time follows this batch by steps, and its deadlines are held against its proposer's clock: from version 3 on. */
export function movesBySteps(message: Uint8Array): boolean {
  return (message[MAGIC.length] as number) >= STEPS_VERSION
}

function readTransaction(from: ByteReader, version: number, refuse: Refuse): Transaction {
  const id = from.id('a transaction id')
  const sub = from.reference('a sub')
  const sid = from.reference('a sid')
  const jti = from.reference('a jti')
  const grantSeq = from.integer('a sequence of grants')
  const fqmn = from.reference('an FQMN')
  const deadlineMs = from.integer('a deadline')
  const body = from.bytes('a body')
  const proof = version === PLAIN_VERSION ? NO_PROOF : readProof(from, refuse)
  const condition = version < CONDITION_VERSION ? NO_PROOF : readCondition(from, refuse)
  // Written out twice: of a spread object each field would be copied once more.
  if (condition.length === 0) return { id, sub, sid, jti, grantSeq, fqmn, body, deadlineMs, proof }
  return { id, sub, sid, jti, grantSeq, fqmn, body, deadlineMs, proof, condition }
}

function readProof(from: ByteReader, refuse: Refuse): Uint8Array {
  const at = from.offset
  const length = from.integer('a proof')
  if (!isProofLength(length)) refuse(at, `a proof of 0 or ${PROOF_BYTES} bytes`)
  return length === 0 ? NO_PROOF : from.raw(length, 'a proof')
}

function readCondition(from: ByteReader, refuse: Refuse): Uint8Array {
  const at = from.offset
  const condition = from.bytes('a condition')
  if (condition.length !== 0 && condition.length !== CONDITION_BYTES) refuse(at, `a condition of 0 or ${CONDITION_BYTES} bytes`)
  return condition
}

function isProofLength(length: number): boolean {
  return length === 0 || length === PROOF_BYTES
}

/**
 * Whether the member that the batch names signed these bytes. `batch` is what `decodeBatch` made of the same `bytes`;
 * `verify` holds the public keys and gives false for a DID that is no member's.
 */
export function verifyBatch(
  bytes: Uint8Array,
  batch: Batch,
  verify: (did: string, bytes: Uint8Array, signature: Uint8Array) => boolean,
): boolean {
  return verify(batch.member, bytes.subarray(0, bytes.length - SIGNATURE_BYTES), batch.signature)
}

function refused(reason: string, offset?: number): never {
  throw new CMeshError('CMESH_CONSENSUS_BATCH', offset === undefined ? { reason } : { reason, offset })
}
