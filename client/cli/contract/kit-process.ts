/**
 * The contract kit's engine in a process of its own: what checks, measures and takes apart a module the way a node does. It owns
 * the child from start to exit. One operation a process; the answer comes over the process's own channel, so that what a
 * scenario prints is no part of it.
 */
import { spawn } from 'node:child_process'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CATALOGUE, CMeshError, type ErrorCode, type WireError } from '../../../cmtp/errors.ts'
import type { ContractAbi } from '../../contract/abi.ts'
import type { Terminal } from '../terminal.ts'

/** What the engine found of a module that it takes. */
export interface ModuleReport {
  readonly abi: ContractAbi
  readonly bytes: number
  readonly meteredBytes: number
  readonly functions: number
  readonly imports: readonly string[]
}

/** What one call of a function cost, with zeros and empty texts as arguments, on empty state. */
export interface GasHint {
  readonly gas: number
  /** The code of the failure it ended with; absent when it succeeded. */
  readonly failed?: string
}

export interface InspectReport extends ModuleReport {
  readonly codeHash: string
  readonly hints: Readonly<Record<string, GasHint>>
}

export interface FunctionGas {
  readonly calls: number
  readonly min: number
  readonly median: number
  readonly max: number
}

export interface GasReport {
  /** Versions of the meter and of its table of costs. */
  readonly meter: number
  readonly schedule: number
  readonly contracts: Readonly<Record<string, { readonly bytes: number, readonly functions: Readonly<Record<string, FunctionGas>> }>>
}

/** The operations, each with what it is asked and what it answers. */
export interface KitOperations {
  readonly check: { readonly ask: { readonly module: string }, readonly answer: ModuleReport }
  readonly inspect: { readonly ask: { readonly module: string }, readonly answer: InspectReport }
  readonly gas: { readonly ask: { readonly scenario: string, readonly code: string }, readonly answer: GasReport }
}

type KitMessage = { readonly type: 'answer', readonly value: unknown } | { readonly type: 'failed', readonly error: WireError }

/** The kit beside this file: dist/node/kit when built, node/kit when a test runs the sources. */
export function kitEntry(name: 'main' | 'register'): string {
  return fileURLToPath(new URL(`../../../node/kit/${name}${extname(fileURLToPath(import.meta.url))}`, import.meta.url))
}

/** Runs one operation. Rejects with the error it ended with, `CMESH_CLIENT_ABORTED` when interrupted. */
export async function askKit<O extends keyof KitOperations>(
  terminal: Terminal, operation: O, ask: KitOperations[O]['ask'],
): Promise<KitOperations[O]['answer']> {
  const child = spawn(process.execPath, [...process.execArgv, kitEntry('main'), operation, JSON.stringify(ask)], {
    env: terminal.env, stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  const stop = (): void => void child.kill('SIGTERM')
  terminal.interrupted.addEventListener('abort', stop, { once: true })
  let message: KitMessage | undefined
  child.on('message', (said: KitMessage) => { message = said })
  for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', (text: string) => terminal.scribble(text))
  try {
    const end = await new Promise<string>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (code, signal) => { resolve(signal ?? `code ${String(code)}`) })
    })
    if (terminal.interrupted.aborted) throw new CMeshError('CMESH_CLIENT_ABORTED')
    if (message?.type === 'answer') return message.value as KitOperations[O]['answer']
    if (message?.type === 'failed') throw failureOf(message.error)
    throw new Error(`the contract kit ended with ${end}`)
  } finally {
    terminal.interrupted.removeEventListener('abort', stop)
  }
}

/** The kit's error as it was: its code is one of this version's own catalogue. */
function failureOf({ code, detail }: WireError): CMeshError {
  return Object.hasOwn(CATALOGUE, code) ? new CMeshError(code as ErrorCode, detail) : CMeshError.fromWire({ code, detail })
}
