/**
 * One operation of the node's side in a process of its own, which this file owns from start to exit. The answer comes over the
 * process's own channel, so that what is printed there is no part of it.
 */
import { spawn } from 'node:child_process'
import { CATALOGUE, CMeshError, type ErrorCode, type WireError } from '../../cmtp/errors.ts'
import type { Terminal } from './terminal.ts'

export interface Operation {
  /** Who it is, for an end that nobody explains. */
  readonly what: string
  /** File of the entry point. */
  readonly entry: string
  readonly operation: string
  /** Goes as JSON. */
  readonly ask: object
  readonly onProgress?: (done: number, of: number) => void
}

type Message =
  | { readonly type: 'answer', readonly value: unknown }
  | { readonly type: 'failed', readonly error: WireError }
  | { readonly type: 'progress', readonly done: number, readonly of: number }

/** Resolves with the answer. Rejects with the error it ended with, `CMESH_CLIENT_ABORTED` when interrupted. */
export async function runOperation(terminal: Terminal, { what, entry, operation, ask, onProgress }: Operation): Promise<unknown> {
  const child = spawn(process.execPath, [...process.execArgv, entry, operation, JSON.stringify(ask)], {
    env: terminal.env, stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  const stop = (): void => void child.kill('SIGTERM')
  terminal.interrupted.addEventListener('abort', stop, { once: true })
  let end: Exclude<Message, { readonly type: 'progress' }> | undefined
  child.on('message', (said: Message) => {
    if (said.type === 'progress') onProgress?.(said.done, said.of)
    else end = said
  })
  for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', (text: string) => terminal.scribble(text))
  try {
    const exit = await new Promise<string>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (code, signal) => { resolve(signal ?? `code ${String(code)}`) })
    })
    if (terminal.interrupted.aborted) throw new CMeshError('CMESH_CLIENT_ABORTED')
    if (end?.type === 'answer') return end.value
    if (end?.type === 'failed') throw failureOf(end.error)
    throw new Error(`${what} ended with ${exit}`)
  } finally {
    terminal.interrupted.removeEventListener('abort', stop)
  }
}

/** The error as it was: its code is one of this version's own catalogue. */
function failureOf({ code, detail }: WireError): CMeshError {
  return Object.hasOwn(CATALOGUE, code) ? new CMeshError(code as ErrorCode, detail) : CMeshError.fromWire({ code, detail })
}
