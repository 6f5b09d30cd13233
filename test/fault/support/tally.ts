/** The contract that the drills write to: registers and counters by key. A write carries its number in the ledger, so that it is known again in a log. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { compileContract } from '../../../client/contract/compile.ts'
import { decodeBatch } from '../../../services/state/batch.ts'
import type { Block } from '../../../services/state/provider.ts'
import type { LoggedWrite } from './ledger.ts'

const SOURCE = `/** Registers and counters. */
import { StateMap } from 'cmesh/sdk'

const values = new StateMap<string, u64>('value')

/** Sets a register to the number of the write, and gives it. */
export function put(key: string, number: u64): u64 {
  values.set(key, number)
  return number
}

/** Adds one to a counter and gives the sum. The number says whose write it is. */
export function increment(key: string, number: u64): u64 {
  const after = values.get(key) + 1
  values.set(key, after)
  return after
}

/** What a register holds or a counter comes to. */
@view
export function get(key: string): u64 {
  return values.get(key)
}
`

/** Its module. */
export async function tallyModule(): Promise<Uint8Array> {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-tally-'))
  try {
    await writeFile(path.join(dir, 'index.ts'), SOURCE)
    return (await compileContract(dir)).wasm
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** The writes to the contract that took effect in a block, in order. */
export function writesOf(block: Block, address: string): LoggedWrite[] {
  if (block.transactions.length === 0) return []
  const asked = new Map(decodeBatch(block.message).transactions.map(transaction => [transaction.id, transaction]))
  return block.transactions.flatMap(({ id, status, output }) => {
    const transaction = asked.get(id)
    const kind = /^0xSW:(0x[0-9a-f]+):(put|increment)$/.exec(transaction?.fqmn ?? '')
    if (transaction === undefined || kind?.[1] !== address || status >= 400) return []
    const [key, number] = JSON.parse(Buffer.from(transaction.body).toString('utf8')) as [string, number]
    return [{ kind: kind[2] as LoggedWrite['kind'], key, number, seq: block.seq, answer: Number(Buffer.from(output).toString('utf8')) }]
  })
}
