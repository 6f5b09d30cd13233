/**
 * Whether a module may be deployed, and what the engine must know of it. A module may import the functions of the host
 * interface with their exact signatures and nothing else, and must export its memory (with a maximum of at most 64 pages) and a
 * `call_<function>` without parameters or results for every function of its ABI. Each refusal says what to mend; the texts
 * depend on the module alone, since a refusal is recorded in the log like any other outcome.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import type { ContractAbi } from '../../services/contracts/provider.ts'
import { ABI_SECTION, parseAbi } from './abi.ts'
import { HOST_SIGNATURES } from './host.ts'
import { readModule } from './reader.ts'
import type { ImportShape, ModuleShape } from './reader.ts'

/** Most memory an instance may have: 64 pages of 64 KiB. */
export const MEMORY_PAGES = 64

/** Runs once on every new instance, before anything else; under no context and without host functions. */
export const START_EXPORT = '_start'

const PROCEDURE = '() -> ()'

/** What the languages of authors import without being asked, and what to use instead. */
const HINTS: ReadonlyMap<string, string> = new Map([
  ['env.abort', 'Compile it with the contract kit, which turns `abort` into `revert`.'],
  ['env.seed', '`Math.random` is not available: replicas would disagree.'],
  ['env.Date.now', '`Date.now` is not available: use `ctx.time()`.'],
  ['env.performance.now', '`performance.now` is not available: use `ctx.time()`.'],
  ['env.trace', '`trace` is not available: emit an event.'],
])

export interface Inspected {
  readonly abi: ContractAbi
  /** See `ModuleShape.mutableGlobals`. */
  readonly mutableGlobals: readonly string[] | undefined
  readonly hasStartExport: boolean
}

/** Throws the `CMESH_DEPLOY_*` error that says what to mend. */
export function inspectModule(wasm: Uint8Array): Inspected {
  if (wasm.length > LIMITS.contractBytes) {
    throw new CMeshError('CMESH_DEPLOY_SIZE', { bytes: wasm.length, limit: LIMITS.contractBytes })
  }
  if (!WebAssembly.validate(wasm)) refuse('it is not a valid WebAssembly module')
  const shape = readModule(wasm, ABI_SECTION)
  shape.imports.forEach(checkImport)
  checkMemory(shape)
  if (shape.hasStart) refuse(`it has a start section; export ${START_EXPORT} instead (\`--exportStart ${START_EXPORT}\`)`)
  const [section, another] = shape.custom
  if (section === undefined || another !== undefined) refuse(`it has ${section ? 'more than one' : 'no'} ${ABI_SECTION} section`)
  const abi = parseAbi(section)
  for (const { name } of abi.functions) checkProcedure(shape, exportOf(name))
  const hasStartExport = shape.exports.has(START_EXPORT)
  if (hasStartExport) checkProcedure(shape, START_EXPORT)
  return { abi, mutableGlobals: shape.mutableGlobals, hasStartExport }
}

/** The export behind a function of the ABI. */
export function exportOf(name: string): string {
  return `call_${name}`
}

function refuse(reason: string): never {
  throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason })
}

function checkImport({ module, name, signature }: ImportShape): void {
  const known = module === 'cmesh' ? HOST_SIGNATURES.get(name) : undefined
  if (known !== undefined && known === signature) return
  const path = `${module}.${name}`
  const hint = known === undefined ? HINTS.get(path) : `Its signature is ${known}.`
  const shown = known !== undefined && signature !== undefined ? `${path} ${signature}` : path
  throw new CMeshError('CMESH_DEPLOY_IMPORT', { import: shown, hint: hint === undefined ? '' : ` ${hint}` })
}

function checkMemory({ memories, exports }: ModuleShape): void {
  if (exports.get('memory')?.kind !== 'memory') throw new CMeshError('CMESH_DEPLOY_EXPORT', { export: 'memory' })
  const [memory, another] = memories
  if (memory === undefined || another !== undefined) refuse('it does not have exactly one memory')
  const { initial, maximum } = memory
  const flag = `(\`--maximumMemory ${MEMORY_PAGES}\`)`
  if (maximum === undefined) refuse(`its memory has no maximum; ${MEMORY_PAGES} pages are allowed ${flag}`)
  if (Math.max(initial, maximum) > MEMORY_PAGES) {
    refuse(`its memory may grow to ${maximum} pages; ${MEMORY_PAGES} are allowed ${flag}`)
  }
}

function checkProcedure({ exports }: ModuleShape, name: string): void {
  const found = exports.get(name)
  if (found?.kind !== 'function') throw new CMeshError('CMESH_DEPLOY_EXPORT', { export: name })
  if (found.signature !== PROCEDURE) refuse(`its export ${name} is ${found.signature} instead of ${PROCEDURE}`)
}
