/**
 * The built command line in a process that stays: each message is a command line, which runs as `cmesh` would run it, on a terminal of its own
 * that nobody watches and nobody types on. `cli-process.ts` starts one for each home. What runs here a second time costs what the command does, not
 * what a process costs to start.
 */
import { Writable } from 'node:stream'

/** @import { run as Run } from '../../../client/cli/program.ts' */
/** @import { stayOnBaseline as Stay } from '../../../client/contract/baseline.ts' */
/** @import { Terminal as TerminalClass } from '../../../client/cli/terminal.ts' */

const client = new URL('../../../dist/client/', import.meta.url)
const { run } = /** @type {{ run: typeof Run }} */ (await import(new URL('cli/program.js', client).href))
const { Terminal } = /** @type {{ Terminal: typeof TerminalClass }} */ (await import(new URL('cli/terminal.js', client).href))
const { stayOnBaseline } = /** @type {{ stayOnBaseline: typeof Stay }} */ (await import(new URL('contract/baseline.js', client).href))

stayOnBaseline()

process.on('message', (/** @type {{ id: number, args: readonly string[] }} */ { id, args }) => void serve(id, args))
process.once('disconnect', () => process.exit())

/**
 * @param {number} id
 * @param {readonly string[]} args
 */
async function serve(id, args) {
  const [stdout, stderr] = [kept(), kept()]
  const interrupted = new AbortController().signal
  const code = await run(args, new Terminal({ stdout, stderr, env: process.env, interrupted }))
  process.send?.({ id, code, stdout: stdout.text(), stderr: stderr.text() })
}

function kept() {
  /** @type {Buffer[]} */
  const chunks = []
  const stream = new Writable({
    write(chunk, _, done) {
      chunks.push(chunk)
      done()
    },
  })
  return Object.assign(stream, { text: () => Buffer.concat(chunks).toString('utf8') })
}
