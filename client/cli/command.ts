/**
 * What the commands share: their options, and how one runs: with a client of the mesh, with its result printed once, for a
 * person or as JSON.
 */
import { InvalidArgumentError, Option, type Command } from 'commander'
import { decodeDid } from '../../cmtp/identity/did.ts'
import type { ConnectOptions } from '../connect.ts'
import { locateMesh } from '../descriptor.ts'
import { configDirectory, IdentityStore } from '../identity-store.ts'
import type { MeshClient } from '../mesh-client.ts'
import { usage } from '../options.ts'
import { answerChallenge } from './challenge.ts'
import { withProgress } from './progress.ts'
import type { Terminal } from './terminal.ts'

/** Bounds of the wait for a mesh to be reached, in ms. */
const REACH = { leastMs: 100, mostMs: 5_000 } as const

export interface JsonOption {
  readonly json?: boolean
}

/** Where the mesh is and who asks. */
export interface MeshOptions extends JsonOption {
  readonly url?: string
  readonly data?: string
  readonly identity?: string
  readonly timeout?: number
}

/** Adds `--json`. */
export function withJson(command: Command, what = 'print one JSON document instead of text'): Command {
  return command.option('--json', what)
}

/** Adds `--json` and the options of every command that talks to a mesh. */
export function withMesh(command: Command, json?: string): Command {
  return withLocation(withJson(command, json)).option('--identity <name>', 'which of your identities to act as', 'default')
}

/** Adds the options that say which mesh, for a command that is about one identity by itself. */
export function withLocation(command: Command): Command {
  return command
    .option('--url <url>', 'the mesh\'s broker (default: CMESH_URL, else the mesh that runs on this machine)')
    .option('--data <dir>', 'data directory of the mesh on this machine (default: CMESH_DATA_DIR, else ~/.local/share/cmesh)')
    .addOption(new Option('--timeout <ms>', 'deadline of a request, and of reaching the mesh where that is shorter than 5000').argParser(integerFrom(1, 300_000)).default(5_000))
}

export function examples(...lines: readonly (readonly [command: string, says: string])[]): string {
  const width = Math.max(...lines.map(([command]) => command.length))
  return `\nExamples:\n${lines.map(([command, says]) => `  $ ${command.padEnd(width)}  ${says}`).join('\n')}`
}

/** A parser of an argument that is a DID: an identity's name is what one types first. */
export function didFrom(text: string): string {
  try {
    decodeDid(text)
  } catch {
    throw new InvalidArgumentError('It must be a DID like did:key:z6Mk…; `cmesh identity show NAME` prints that of an identity of yours.')
  }
  return text
}

/** A parser of option values. `meaning`: what the largest stands for, where nobody would read that off the number. */
export function integerFrom(min: number, max: number, meaning?: string): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!/^\d+$/.test(text) || value < min || value > max) throw new InvalidArgumentError(`It must be an integer from ${min} to ${max}${meaning === undefined ? '' : ` (${meaning})`}.`)
    return value
  }
}

/** What says which mesh and as whom, by the names that options have in a program. */
export const MESH_OPTIONS = ['url', 'data', 'identity', 'timeout'] as const

/** Refuses options that were typed where they would count for nothing: whoever typed them believes that they do. `why` is a sentence. */
export function refuseIdle(command: Command, names: readonly string[], why: string): void {
  const idle = command.options.filter((option) => names.includes(option.attributeName()) && command.getOptionValueSource(option.attributeName()) === 'cli')
  if (idle.length > 0) throw usage(`${[...new Set(idle.map(({ long, short }) => long ?? short))].join(' and ')} would count for nothing: ${why}`)
}

/** The mesh that the options and the environment mean. Throws `CMESH_CLIENT_USAGE` where they mean two. */
export async function meshOf(terminal: Terminal, options: MeshOptions): ReturnType<typeof locateMesh> {
  if (options.url !== undefined && options.data !== undefined) throw usage('--url and --data each say which mesh: give one of them.')
  return await locateMesh({ url: options.url, dataDir: options.data }, terminal.env)
}

export function identities(terminal: Terminal): IdentityStore {
  return new IdentityStore(configDirectory(terminal.env))
}

/** Connects, runs `use`, and closes the client whatever comes of it. */
export async function withClient<T>(
  terminal: Terminal, options: MeshOptions, use: (client: MeshClient) => Promise<T>, more: ConnectOptions = {},
): Promise<T> {
  // Not every command has a mesh to talk to.
  const { connect } = await import('../connect.ts')
  const { url, descriptor } = await meshOf(terminal, options)
  const { approve } = more
  const client = await withProgress(terminal, `connecting to ${url}`, (progress) => connect({
    url, mesh: descriptor?.did, identity: options.identity, configDir: configDirectory(terminal.env),
    timeoutMs: options.timeout, connectTimeoutMs: reachMs(options.timeout),
    name: 'cmesh cli', signal: terminal.interrupted,
    onWarning: (warning) => terminal.note(`warning ${warning.code}: ${warning.message}`), ...more,
    // Where a person is asked, no line may move.
    ...(approve !== undefined && { approve: (grant) => (progress.stop(), approve(grant)) }),
    ...(terminal.answers && { onChallenge: (challenge) => (progress.stop(), answerChallenge(terminal, challenge)) }),
  }))
  try {
    return await use(client)
  } finally {
    await client.close()
  }
}

/** How long the mesh may take to be reached, in ms: no longer than a request, within what `connect` takes for it. */
function reachMs(timeoutMs: number | undefined): number | undefined {
  return timeoutMs === undefined ? undefined : Math.max(REACH.leastMs, Math.min(REACH.mostMs, timeoutMs))
}

/** Prints the result: `value` as JSON, or `lines` for a person. */
export function printResult(terminal: Terminal, options: JsonOption, value: unknown, lines: () => readonly string[]): void {
  if (options.json === true) terminal.printJson(value)
  else for (const line of lines()) terminal.print(line)
}

/** Aligned `key  value` lines. */
export function fields(terminal: Terminal, pairs: readonly (readonly [key: string, value: string])[]): string[] {
  const width = Math.max(...pairs.map(([key]) => key.length))
  return pairs.map(([key, value]) => `${terminal.style('dim', key.padEnd(width))}  ${value}`)
}

export function time(ms: number): string {
  return new Date(ms).toISOString()
}
