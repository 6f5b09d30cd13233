/**
 * Receipts and their witnesses as files, with mode 0600. The witness has what the receipt keeps to itself, bodies and arguments: it stands beside
 * the receipt, so that one can be handed on without the other.
 */
import { chmod } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Reply } from '../reply.ts'
import { writeOutput } from './output.ts'

export const RECEIPT = '.receipt'
/** Behind the name of the receipt. */
export const WITNESS = '.witness'

/** Resolves with whether there was a receipt to keep. */
export async function keepReceipt(reply: Reply, { file, witness }: { readonly file: string, readonly witness: string | undefined }): Promise<boolean> {
  const [receipt, shown] = [reply.receiptBytes(), reply.witnessBytes()]
  if (receipt === undefined) return false
  await writePrivate(resolve(file), receipt)
  if (witness !== undefined && shown !== undefined) await writePrivate(resolve(witness), shown)
  return true
}

/** One that is there already keeps its mode when it is written: it is closed to others first. */
async function writePrivate(path: string, bytes: Uint8Array): Promise<void> {
  await chmod(path, 0o600).catch((cause: unknown) => {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause
  })
  await writeOutput(path, bytes)
}
