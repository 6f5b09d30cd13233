/**
 * Receipts and their witnesses as files, with mode 0600. The witness has what the receipt keeps to itself, bodies and arguments: it stands beside
 * the receipt, so that one can be handed on without the other.
 */
import { resolve } from 'node:path'
import type { ReceiptLevel } from '../../cmtp/wire.ts'
import { usage } from '../options.ts'
import type { Reply } from '../reply.ts'
import { nearest } from './nearest.ts'
import { OutputFile } from './output.ts'

export const RECEIPT = '.receipt'
/** Behind the name of the receipt. */
export const WITNESS = '.witness'

const LEVELS: readonly ReceiptLevel[] = ['none', 'hash', 'full']

/** What `--receipt` says: a level, or a file. Throws `CMESH_CLIENT_USAGE` for a word that is all but a level. */
export function receiptAsked(given: string): { readonly level: ReceiptLevel, readonly file?: string } {
  const level = LEVELS.find((each) => each === given)
  if (level !== undefined) return { level }
  const meant = nearest(given, LEVELS)
  if (meant !== undefined) throw usage(`--receipt ${given} is neither none, hash nor full. Did you mean ${meant}? A file of that name is ./${given}.`)
  return { level: 'full', file: given }
}

/** Where a receipt and its witness go. Made before the request is: one that changes something is not sent where its receipt cannot be kept. */
export class ReceiptPlace {
  readonly #receipt: OutputFile
  readonly #witness: OutputFile | undefined

  private constructor(receipt: OutputFile, witness: OutputFile | undefined) {
    this.#receipt = receipt
    this.#witness = witness
  }

  /** Rejects with `CMESH_CLIENT_USAGE` where one of the files is there, or cannot be made. */
  static async make(file: string, witness: string | undefined): Promise<ReceiptPlace> {
    if (witness !== undefined && resolve(witness) === resolve(file)) throw usage(`A receipt and its witness are two files, and ${file} is one.`)
    const receipt = await OutputFile.make(file)
    try {
      return new ReceiptPlace(receipt, witness === undefined ? undefined : await OutputFile.make(witness))
    } catch (error) {
      await receipt.discard()
      throw error
    }
  }

  /** Resolves with whether the reply had a receipt to keep; files that nothing came into are gone. */
  async keep(reply: Reply): Promise<boolean> {
    const [receipt, witness] = [reply.receiptBytes(), reply.witnessBytes()]
    if (receipt === undefined) {
      await this.discard()
      return false
    }
    await this.#receipt.write(receipt).catch(async (error: unknown) => {
      await this.#witness?.discard()
      throw error
    })
    if (witness === undefined) await this.#witness?.discard()
    else await this.#witness?.write(witness)
    return true
  }

  async discard(): Promise<void> {
    await Promise.all([this.#receipt.discard(), this.#witness?.discard()])
  }
}

/** Keeps the receipt of a reply that is there. Resolves with whether there was one. */
export async function keepReceipt(reply: Reply, { file, witness }: { readonly file: string, readonly witness: string | undefined }): Promise<boolean> {
  return (await ReceiptPlace.make(file, witness)).keep(reply)
}
