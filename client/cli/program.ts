/** The command line as a whole: its commands, its help and how it reports. Nothing here exits the process. */
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { attribute } from './commands/attribute.ts'
import { authz } from './commands/authz.ts'
import { call } from './commands/call.ts'
import { capability } from './commands/capability.ts'
import { completion } from './commands/completion.ts'
import { contract } from './commands/contract/index.ts'
import { demo } from './commands/demo.ts'
import { deploy } from './commands/deploy.ts'
import { dlq } from './commands/dlq.ts'
import { events } from './commands/events.ts'
import { identity } from './commands/identity.ts'
import { keys } from './commands/keys.ts'
import { later } from './commands/later.ts'
import { login } from './commands/login.ts'
import { operator } from './commands/operator.ts'
import { register } from './commands/register.ts'
import { resolve } from './commands/resolve.ts'
import { spam } from './commands/spam.ts'
import { status } from './commands/status.ts'
import { up } from './commands/up.ts'
import { whoami } from './commands/whoami.ts'
import { usage } from '../options.ts'
import { examples } from './command.ts'
import { EXIT, EXIT_HELP, exitCodeOf, Reported } from './exit-codes.ts'
import { failureDocument, printFailure } from './failure.ts'
import type { Terminal } from './terminal.ts'

const COMMANDS = [
  up, login, whoami, identity, attribute, status, call, later, register, resolve, deploy, contract, events, dlq, authz, capability, keys,
  operator, spam, demo, completion,
]

export function buildProgram(terminal: Terminal): Command {
  const program = new Command('cmesh')
    .description('A mesh of contracts, names and events on NATS: every request is authenticated and leaves a receipt.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .enablePositionalOptions()
    .showHelpAfterError('(--help shows how it is used)')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.print(text.replace(/\n$/, '')),
      writeErr: (text) => terminal.note(text.replace(/\n$/, '')),
      outputError: (text, write) => write(text.replace(/^error: /, 'error CMESH_CLIENT_USAGE: ')),
    })
    .addHelpText('after', `${examples(
      ['cmesh up', 'run a mesh of one node on this machine'],
      ['cmesh call 0xS:0x001:hello_world', 'call a contract'],
      ['cmesh register hello.mcom 0xS:0x001', 'give it a name'],
      ['cmesh demo', 'see all of it work'],
    )}\n\n${EXIT_HELP}`)
  for (const add of COMMANDS) add(program, terminal)
  return program
}

/** Runs one command line (without `node` and the script) and resolves with the exit code. Never rejects. */
export async function run(args: readonly string[], terminal: Terminal): Promise<number> {
  const json = args.includes('--json')
  try {
    await buildProgram(terminal).parseAsync(args, { from: 'user' })
    return EXIT.ok
  } catch (thrown) {
    // Help and version end this way too, with code 0; they and wrong usage are shown already.
    if (thrown instanceof CommanderError) {
      if (thrown.exitCode === 0) return EXIT.ok
      if (json) terminal.printJson(failureDocument(usage(thrown.message.replace(/^error: /, ''))))
      return EXIT.usage
    }
    if (thrown instanceof Reported) return thrown.exitCode
    if (terminal.interrupted.aborted) return EXIT.interrupted
    printFailure(terminal, thrown, json)
    return exitCodeOf(thrown)
  }
}

/** From the package's own manifest, one directory higher up when built. */
function packageVersion(): string {
  for (const up of ['../../', '../../../']) {
    try {
      return (JSON.parse(readFileSync(new URL(`${up}package.json`, import.meta.url), 'utf8')) as { readonly version: string }).version
    } catch {
      // Not there: the other place.
    }
  }
  return 'unknown'
}
