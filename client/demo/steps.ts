/**
 * The demo's main job, step by step, on a running mesh: names, load, a contract, events, a restart. Each step asks through the
 * client, writes what it expects into the ledger and gives what the report shows of it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CMeshError } from '../../cmtp/errors.ts'
import { verifyReceipt } from '../../cmtp/receipt/verify.ts'
import type { Progress } from '../cli/progress.ts'
import { SDK_VERSION } from '../contract/abi.ts'
import { compileContract } from '../contract/compile.ts'
import type { MeshClient } from '../mesh-client.ts'
import type { Reply } from '../reply.ts'
import type { SpamReport } from '../spam/spam.ts'
import type { Ledger } from './ledger.ts'
import type { Sandbox } from './sandbox.ts'

export interface NameOutcome {
  readonly name: string
  readonly fqmn: string
  readonly status: number
}

export interface CallOutcome {
  readonly fqmn: string
  readonly status: number
  readonly result: unknown
}

export interface EventsOutcome {
  readonly published: number
  readonly read: number
}

export interface StepParts {
  readonly sandbox: Sandbox
  readonly client: MeshClient
  readonly ledger: Ledger
  readonly progress: Progress
  readonly signal: AbortSignal
}

const CHANNEL = 'demo.news'
const EVENTS = 5
/** Longest wait for events that were published to arrive live, in ms. */
const LIVE_MS = 10_000
const CONTRACT_SOURCE = 'contracts/guestbook/index.ts'

/** Calls an address, counts its final hash, and gives the reply whatever its status. */
async function ask({ client, ledger, signal }: StepParts, fqmn: string, args?: readonly unknown[]): Promise<Reply> {
  const reply = await client.call(fqmn, { args, signal })
  ledger.hashed(reply)
  return reply
}

/** Registers two names, tries to take one that is taken, and looks up one that nobody has. */
export async function names(parts: StepParts): Promise<NameOutcome[]> {
  const { ledger } = parts
  const outcomes: NameOutcome[] = [
    await claim(parts, 'helloWorld.mcom', '0xS:0x001'),
    await claim(parts, 'helloWorldExample.mcom', '0xS:0x001:hello_world'),
    await claim(parts, 'helloWorldExample.mcom', '0xS:0x001:blah_blah'),
  ]
  const unknown = await ask(parts, '0xR:google.com')
  outcomes.push({ name: 'google.com', fqmn: '0xR:google.com', status: unknown.status })
  const statuses = outcomes.map(({ status }) => status)
  ledger.expect('two names are registered, a taken one is refused with 409, an unregistered one is 404', statuses.join() === '200,200,409,404', statuses)

  const greeting = await ask(parts, '0xR:helloWorldExample.mcom:["Dexter"]')
  ledger.expect('0xR:helloWorldExample.mcom:["Dexter"] says "Hello, Dexter"', greeting.ok && greeting.json() === 'Hello, Dexter', greeting.text())
  return outcomes
}

async function claim({ client, signal }: StepParts, name: string, fqmn: string): Promise<NameOutcome> {
  return { name, fqmn, status: await statusOf(client.register(name, fqmn, { signal })) }
}

async function statusOf(work: Promise<unknown>): Promise<number> {
  try {
    await work
    return 200
  } catch (error) {
    // Codes below 500 are answers; anything else ends the demo.
    if (error instanceof CMeshError && error.status < 500 && error.code !== 'CMESH_CLIENT_ABORTED') return error.status
    throw error
  }
}

/** 30,000 requests of the mix from a client process of its own, with bare NATS beside it. */
export async function load({ sandbox, ledger, progress, signal }: StepParts, count: number): Promise<SpamReport> {
  const own = fileURLToPath(import.meta.url)
  const cli = fileURLToPath(new URL(`../cli/main${extname(own)}`, import.meta.url))
  const child = spawn(process.execPath, [...process.execArgv, cli, 'spam', '--json', '--count', String(count)], { env: sandbox.env, stdio: ['ignore', 'pipe', 'pipe'] })
  // What it says beside its result is how far it is.
  child.stderr.setEncoding('utf8').on('data', (lines: string) => progress.update(lines.trimEnd().split('\n').at(-1)?.replace(/ \(\d+ s\)$/, '') ?? ''))
  const stop = (): void => { child.kill('SIGINT') }
  signal.addEventListener('abort', stop, { once: true })
  try {
    const [output] = await Promise.all([text(child.stdout), once(child, 'exit')])
    if (signal.aborted) throw new CMeshError('CMESH_CLIENT_ABORTED')
    const report = JSON.parse(output) as Partial<SpamReport> & { readonly error?: { readonly code: string, readonly message: string } }
    if (report.error !== undefined) throw CMeshError.fromWire(report.error)
    const done = report as SpamReport
    ledger.replies += done.requests
    ledger.hashes += done.hashes
    ledger.expect(`all ${count} requests are answered well`, done.ok === count && done.failed === 0, { ok: done.ok, failed: done.failed, failures: done.failures })
    return done
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

export interface ContractOutcome {
  readonly address: string
  readonly calls: CallOutcome[]
}

/** Compiles a contract, deploys it, calls it by address and by name, writes its state and reads it back. */
export async function contract(parts: StepParts): Promise<ContractOutcome> {
  const { client, ledger, progress, signal } = parts
  progress.update(`compiling ${CONTRACT_SOURCE}`)
  const compiled = await compileContract(fileURLToPath(await sourceUrl()))
  progress.update('deploying guestbook')
  const { address } = await client.deploy({ wasm: compiled.wasm, name: 'guestbook', version: '1.0.0', compiler: compiled.compiler, sdk: SDK_VERSION, signal })
  progress.update('calling guestbook')
  await client.register('guestbook.mcom', `0xS:${address}`, { signal })
  const calls: CallOutcome[] = []
  const call = async (fqmn: string, args: readonly unknown[] | undefined, result: unknown): Promise<void> => {
    const reply = await ask(parts, fqmn, args)
    const got = reply.ok ? reply.json() : reply.error()?.code
    calls.push({ fqmn, status: reply.status, result: got })
    ledger.expect(`${fqmn} gives ${JSON.stringify(result)}`, reply.ok && String(got) === String(result), got)
  }
  await call(`0xSW:${address}:sign`, ['first, by address'], 1)
  await call('0xRW:guestbook.mcom:sign', ['second, by name'], 2)
  await call(`0xS:${address}:entry:[1]`, undefined, 'first, by address')
  await call('0xR:guestbook.mcom:entry:[2]', undefined, 'second, by name')
  await call('0xR:guestbook.mcom:count', undefined, 2)
  return { address, calls }
}

/** The contract's source lies in the package's root: two levels up in the sources, three when built. */
async function sourceUrl(): Promise<URL> {
  for (const up of ['../../', '../../../']) {
    const url = new URL(`${up}${CONTRACT_SOURCE}`, import.meta.url)
    if (await access(url).then(() => true, () => false)) return url
  }
  throw new CMeshError('CMESH_CLIENT_COMPILE', { file: CONTRACT_SOURCE, reason: 'it is missing from this installation.' })
}

/** Publishes events, hears them live, and reads them back. */
export async function events(parts: StepParts): Promise<EventsOutcome> {
  const { client, ledger, signal } = parts
  const live: number[] = []
  let heard = (): void => undefined
  const all = new Promise<void>((resolve) => { heard = resolve })
  const subscription = await client.subscribe(CHANNEL, ({ seq }) => {
    live.push(seq)
    if (live.length === EVENTS) heard()
  }, { signal })
  const published: number[] = []
  for (let i = 1; i <= EVENTS; i++) published.push((await client.publish(CHANNEL, `news ${i} of ${EVENTS}`, { signal })).seq)
  let timer: ReturnType<typeof setTimeout> | undefined
  await Promise.race([all, new Promise<void>((resolve) => { timer = setTimeout(resolve, LIVE_MS) })])
  clearTimeout(timer)
  await subscription.close()
  const read = await client.range(CHANNEL, {}, { signal })
  ledger.expect('every event published is heard live, in order', live.join() === published.join(), { published, live })
  ledger.expect('every event published is read back, in order', read.map(({ seq }) => seq).join() === published.join(), read)

  const newest = await ask(parts, '0xE:0xR:guestbook.mcom:signed')
  ledger.expect('the contract\'s own event is read through its name', newest.ok, newest.text())
  return { published: published.length, read: read.length }
}

/** Asks for no final hash and gets none. */
export async function withoutReceipt({ client, ledger, signal }: StepParts): Promise<void> {
  const reply = await client.call('0xS:0x001:hello_world', { receipt: 'none', signal })
  ledger.expect('a request that asks for no final hash gets none', reply.ok && reply.finalHash === undefined, reply.finalHash ?? reply.status)
}

export interface ReceiptsOutcome {
  /** Receipts that were asked for, those that hold by the mesh's DID alone, and those that still did with one bit changed. */
  readonly asked: number
  readonly held: number
  readonly forged: number
}

/** Takes the receipts of a read, of a write and of an address that nobody has, and checks them as somebody without the mesh would. */
export async function receipts({ client, ledger, signal }: StepParts, mesh: string, address: string): Promise<ReceiptsOutcome> {
  const fqmns = ['0xR:helloWorldExample.mcom:["Dexter"]', `0xSW:${address}:sign:["third, with a receipt"]`, '0xR:google.com']
  const outcome = { asked: fqmns.length, held: 0, forged: 0 }
  for (const fqmn of fqmns) {
    const reply = await client.call(fqmn, { receipt: 'full', signal })
    const receipt = Buffer.from(reply.receiptBytes() ?? [])
    const verdict = verifyReceipt(receipt, mesh)
    if (verdict.valid) outcome.held++
    ledger.expect(`the receipt of ${fqmn} holds`, verdict.valid && verdict.receipt.status === reply.status, verdict.valid ? verdict.receipt.status : verdict.reason)
    const middle = receipt.length >> 1
    receipt[middle] = (receipt[middle] ?? 0) ^ 1
    const forged = verifyReceipt(receipt, mesh)
    if (forged.valid) outcome.forged++
    ledger.expect(`the receipt of ${fqmn} with one bit changed does not hold`, !forged.valid, 'valid')
  }
  return outcome
}

/** Stops the node, starts it on the same data, and reads what was written before. */
export async function restart(parts: StepParts, address: string): Promise<{ readonly survived: boolean, readonly call: CallOutcome }> {
  const { sandbox, ledger, progress } = parts
  progress.update('stopping the node')
  const code = await sandbox.stopNode()
  ledger.expect('the node drains and ends with code 0', code === 0, code)
  await sandbox.startNode((step) => progress.update(`starting it again: ${step}`))
  progress.update('reading what was written before')
  const fqmn = `0xS:${address}:entry:[1]`
  const reply = await ask(parts, fqmn)
  const result = reply.ok ? reply.json() : reply.error()?.code
  const survived = reply.ok && result === 'first, by address'
  ledger.expect('what was written before the restart is still there', survived, result)
  return { survived, call: { fqmn, status: reply.status, result } }
}
