/** A terminal whose output a test reads; seen by a person or not, as asked. */
import { Writable } from 'node:stream'
import { Terminal } from '../../../client/cli/terminal.ts'

export interface Capture {
  readonly terminal: Terminal
  readonly interrupt: AbortController
  readonly out: () => string
  readonly err: () => string
}

export function capture(options: { readonly env?: NodeJS.ProcessEnv, readonly tty?: boolean } = {}): Capture {
  const { env = {}, tty = false } = options
  const stdout = sink(tty)
  const stderr = sink(tty)
  const interrupt = new AbortController()
  const terminal = new Terminal({ stdout: stdout.stream, stderr: stderr.stream, env, interrupted: interrupt.signal })
  return { terminal, interrupt, out: stdout.text, err: stderr.text }
}

interface Sink {
  readonly stream: Writable & { readonly isTTY: boolean, readonly columns: number }
  readonly text: () => string
}

function sink(isTTY: boolean): Sink {
  let text = ''
  const stream = new Writable({
    write(chunk: Buffer | string, _, done) {
      text += chunk.toString()
      done()
    },
  })
  return { stream: Object.assign(stream, { isTTY, columns: 80 }), text: () => text }
}
