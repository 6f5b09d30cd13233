#!/usr/bin/env node
/**
 * Entry point of the `cmesh` command: the process and nothing else. Ctrl-C lets the command end in good order; a second one
 * ends the process at once.
 */
import { stayOnBaseline } from '../contract/baseline.ts'
import { EXIT } from './exit-codes.ts'
import { run } from './program.ts'
import { Terminal } from './terminal.ts'

stayOnBaseline()

const interrupt = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (interrupt.signal.aborted) process.exit(EXIT.interrupted)
    interrupt.abort()
  })
}
// Whoever reads the results may stop reading, as `head` does: that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok)
  throw error
})

const terminal = new Terminal({
  // Opened by who asks alone: most commands never do.
  get stdin() { return process.stdin },
  stdout: process.stdout, stderr: process.stderr, env: process.env, interrupted: interrupt.signal,
})
const code = await run(process.argv.slice(2), terminal)
// What the results are written to may be a pipe that takes them later.
process.stdout.write('', () => process.exit(code))
