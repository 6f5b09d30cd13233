/**
 * Replays receipts on the log of a data directory, whether a node runs there or not: any number of them in one pass over the log, which is read
 * up to the last place that one of them speaks of. Nothing in the directory is changed.
 */
import { readdir, readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError, type WireError } from '../../cmtp/errors.ts'
import { isContractAddress, parseFqmn } from '../../cmtp/fqmn.ts'
import { PublicKey } from '../../cmtp/identity/keys.ts'
import { decodePackage, type ContractPackage } from '../../cmtp/package.ts'
import type { Verify } from '../../cmtp/receipt/root.ts'
import { LogCheck } from '../../providers/registry.ts'
import { addressOf, contractKeys, contractRecord } from '../../services/contracts/records.ts'
import { Resolver } from '../../services/registrar/resolver.ts'
import { askedOf, type Asked } from '../../services/replay/asked.ts'
import type { Comparison } from '../../services/replay/comparison.ts'
import { Past, type OtherCode } from '../../services/replay/past.ts'
import { ReplayPass, type Replayed } from '../../services/replay/pass.ts'
import { decodeBlock } from '../../services/state/block.ts'
import type { Space } from '../../services/state/provider.ts'
import { loneEngine } from '../lone-engine.ts'
import { withLog, type OnProgress } from './source.ts'

export interface ReplayAsk {
  /** Data directory. */
  readonly dir: string
  /** Receipts; of a directory those files whose names end in `.receipt`. */
  readonly files: readonly string[]
  /** Of the one receipt. Default: `<receipt>.witness` beside each, where it is there. */
  readonly witness?: string
  /** A package whose code runs in the place of what was in force: of `contract`, an address or a name, by default of contracts of its name. */
  readonly code?: { readonly file: string, readonly contract?: string }
  /** Most gas a view may use. */
  readonly viewGas?: number
}

export type ReplayedReceipt = { readonly file: string } & (
  | (Comparison & { readonly id: string, readonly address: string, readonly witnessed: boolean })
  | { readonly verdict: 'none', readonly error: WireError }
)

export interface ReplayAnswer {
  readonly receipts: readonly ReplayedReceipt[]
  /** Blocks of the log that were read. */
  readonly blocks: number
}

const RECEIPT = '.receipt'
const WITNESS = '.witness'
const PROGRESS_BLOCKS = 256

/**
 * Rejects with `CMESH_STATE_NO_LOG`, `CMESH_STATE_CORRUPT`, with `CMESH_CLIENT_USAGE` for a file that cannot be read, and for a package with
 * `CMESH_DEPLOY_*`. What is wrong with one receipt is said in its place.
 */
export async function replayReceipts({ dir, files, witness, code, viewGas }: ReplayAsk, onProgress: OnProgress): Promise<ReplayAnswer> {
  const pkg = code === undefined ? undefined : decodePackage(await read(code.file))
  const other = pkg === undefined ? undefined : otherCode(pkg, code?.contract)
  const all = await listed(files)
  if (witness !== undefined && (all.length !== 1 || all[0]?.found === true)) {
    throw new CMeshError('CMESH_CLIENT_USAGE', { reason: 'A witness is that of one receipt, which is named; of those in a directory each has its own beside it.' })
  }
  const receipts = await taken(all, witness)
  const asked = receipts.flatMap(({ asked: one }) => one instanceof CMeshError ? [] : [one])
  const pass = asked.length === 0 ? undefined : await withLog(dir, log => {
    const state = new LogCheck(log.path)
    const engine = loneEngine()
    if (pkg !== undefined) engine.inspect(pkg.module)
    const through = new ReplayPass(new Past(engine, state, other), asked, { viewGas })
    const to = Math.min(through.last, log.length)
    return log.read((bytes, index) => {
      // Block `i` of the log, from 0, is that of sequence `i + 1`.
      if (through.holds(index + 1)) through.before(decodeBlock(bytes, { path: log.path, block: index }))
      through.after(state.take(bytes))
      if (index % PROGRESS_BLOCKS === 0) onProgress(index, to)
    }, 0, to).then(() => {
      through.end(log.length)
      return { results: through.results, blocks: to }
    }).finally(() => { engine.close() })
  })
  return { receipts: receipts.map(({ file, asked: one }) => resultOf(file, one, pass?.results)), blocks: pass?.blocks ?? 0 }
}

interface Listed {
  readonly file: string
  /** In a directory, where it may be anything: nobody has said that it is a receipt. */
  readonly found: boolean
}

/** The files themselves, and what is in the directories. */
async function listed(files: readonly string[]): Promise<Listed[]> {
  const all = await Promise.all(files.map(async (file): Promise<Listed[]> => {
    if (!(await stat(file).catch(unreadable(file))).isDirectory()) return [{ file, found: false }]
    const names = await readdir(file).catch(unreadable(file))
    return names.filter(name => name.endsWith(RECEIPT)).sort().map(name => ({ file: path.join(file, name), found: true }))
  }))
  return all.flat()
}

interface Taken {
  readonly file: string
  readonly asked: Asked | CMeshError
}

async function taken(files: readonly Listed[], witness: string | undefined): Promise<Taken[]> {
  const verify = remembering()
  const all: Taken[] = []
  for (const { file, found } of files) {
    try {
      const [receipt, shown] = await Promise.all([read(file), witness === undefined ? beside(file + WITNESS) : read(witness)])
      all.push({ file, asked: askedOf(receipt, shown, verify) })
    } catch (error) {
      // What the user has named has to be there; of a directory the rest is replayed all the same.
      if (!(error instanceof CMeshError) || (error.code === 'CMESH_CLIENT_USAGE' && !found)) throw error
      all.push({ file, asked: error })
    }
  }
  return all
}

/** Receipts of one batch have one root: its signature is checked once. */
function remembering(): Verify {
  const known = new Map<string, boolean>()
  return (did, bytes, signature) => {
    const key = `${did} ${Buffer.from(signature).toString('latin1')} ${Buffer.from(bytes).toString('latin1')}`
    let holds = known.get(key)
    if (holds === undefined) known.set(key, holds = PublicKey.fromDid(did).verify(bytes, signature))
    return holds
  }
}

function otherCode(pkg: ContractPackage, contract: string | undefined): OtherCode {
  const standing = (system: Space): readonly string[] => {
    if (contract === undefined) {
      return [...contractKeys(system)].map(key => contractRecord(system, addressOf(key)))
        .filter(record => record.proxyOf === undefined && record.manifest.name === pkg.manifest.name).map(({ address }) => address)
    }
    const address = isContractAddress(contract) ? contract : new Resolver(system).resolve(parseFqmn(`0xR:${contract}`), 0).segments[0] ?? ''
    return [contractRecord(system, address).proxyOf ?? address]
  }
  return { pkg, contracts: standing }
}

function resultOf(file: string, asked: Asked | CMeshError, results: ReadonlyMap<Asked, Replayed> | undefined): ReplayedReceipt {
  const none = (error: CMeshError): ReplayedReceipt => ({ file, verdict: 'none', error: error.toWire() })
  if (asked instanceof CMeshError) return none(asked)
  const result = results?.get(asked)
  if (result === undefined) throw new Error(`${file} was passed over`)
  if (result instanceof CMeshError) return none(result)
  return { file, id: asked.id, address: asked.hop.fqmn, witnessed: asked.witness !== undefined, ...result }
}

function read(file: string): Promise<Buffer> {
  return readFile(file).catch(unreadable(file))
}

function unreadable(file: string): (cause: unknown) => never {
  return cause => { throw new CMeshError('CMESH_CLIENT_USAGE', { reason: `${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}.` }, { cause }) }
}

/** Of a receipt that has no witness, none. */
function beside(file: string): Promise<Buffer | undefined> {
  return readFile(file).catch((cause: unknown) => (cause as NodeJS.ErrnoException).code === 'ENOENT' ? undefined : unreadable(file)(cause))
}
