/**
 * Entry point: the raw side of the comparison, a process of its own. It runs a bare nats-server and answers each request there
 * with its own bytes. It talks to its parent over the channel it was spawned with (`{url}` or `{error}`), and when that closes,
 * however the parent ended, server and process end too.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { connect, type NatsConnection } from '@nats-io/transport-node'

/** Where requests go. */
const SUBJECT = 'raw.echo'
/** Longest wait for the server, in ms. */
const READY_MS = 10_000

const [binary = 'nats-server'] = process.argv.slice(2)
const dir = await mkdtemp(join(tmpdir(), 'cmesh-raw-'))
const server = spawn(binary, ['-a', '127.0.0.1', '-p', '-1', '--ports_file_dir', dir], { stdio: 'ignore' })
const gone = once(server, 'exit').catch(() => undefined)
let nats: NatsConnection | undefined

process.once('disconnect', () => void end())
// A signal is for the parent to act on: it closes the channel.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined)

try {
  const url = await listening()
  const connection = nats = await connect({ servers: url, noAsyncTraces: true })
  connection.subscribe(SUBJECT, { callback: (_, message) => { connection.publish(message.reply ?? '', message.data) } })
  await connection.flush()
  process.send?.({ url, subject: SUBJECT })
} catch (error) {
  process.send?.({ error: error instanceof Error ? error.message : String(error) })
  await end()
}

/** The server writes the ports it chose into a file of this directory. */
async function listening(): Promise<string> {
  let failure: Error | undefined
  server.once('error', (error) => { failure = error })
  for (const end = performance.now() + READY_MS; performance.now() < end; await delay(10)) {
    if (failure !== undefined) throw failure
    if (server.exitCode !== null) throw new Error(`nats-server ended with code ${server.exitCode}`)
    const file = (await readdir(dir)).find((name) => name.endsWith('.ports'))
    const text = file === undefined ? '' : await readFile(join(dir, file), 'utf8')
    if (text.endsWith('}')) return (JSON.parse(text) as { readonly nats: readonly [string] }).nats[0]
  }
  throw new Error('nats-server did not say which port it listens on')
}

async function end(): Promise<void> {
  // Closed first: it would try to reconnect to a server that is gone.
  await nats?.close()
  server.kill('SIGKILL')
  await gone
  await rm(dir, { recursive: true, force: true })
  process.exitCode = 0
  if (process.connected) process.disconnect()
}
