/** The command line as a whole: its commands, its help and how it reports. Nothing here exits the process. */
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { usage } from '../options.ts'
import { examples } from './command.ts'
import { addCommands, type Commands } from './commands.ts'
import { EXIT, EXIT_HELP, exitCodeOf, Reported } from './exit-codes.ts'
import { failureDocument, ofFile, printFailure } from './failure.ts'
import type { Terminal } from './terminal.ts'

const COMMANDS: Commands = {
  up: async () => (await import('./commands/up.ts')).up,
  login: async () => (await import('./commands/login.ts')).login,
  whoami: async () => (await import('./commands/whoami.ts')).whoami,
  identity: async () => (await import('./commands/identity.ts')).identity,
  attribute: async () => (await import('./commands/attribute.ts')).attribute,
  status: async () => (await import('./commands/status.ts')).status,
  call: async () => (await import('./commands/call.ts')).call,
  later: async () => (await import('./commands/later.ts')).later,
  register: async () => (await import('./commands/register.ts')).register,
  resolve: async () => (await import('./commands/resolve.ts')).resolve,
  name: async () => (await import('./commands/name.ts')).name,
  deploy: async () => (await import('./commands/deploy.ts')).deploy,
  contract: async () => (await import('./commands/contract/index.ts')).contract,
  events: async () => (await import('./commands/events.ts')).events,
  dlq: async () => (await import('./commands/dlq.ts')).dlq,
  state: async () => (await import('./commands/state.ts')).state,
  authz: async () => (await import('./commands/authz.ts')).authz,
  capability: async () => (await import('./commands/capability.ts')).capability,
  keys: async () => (await import('./commands/keys.ts')).keys,
  mesh: async () => (await import('./commands/mesh.ts')).mesh,
  cluster: async () => (await import('./commands/cluster.ts')).cluster,
  operator: async () => (await import('./commands/operator.ts')).operator,
  backup: async () => (await import('./commands/backup.ts')).backup,
  restore: async () => (await import('./commands/backup.ts')).restore,
  verify: async () => (await import('./commands/backup.ts')).verify,
  consensus: async () => (await import('./commands/consensus.ts')).consensus,
  receipt: async () => (await import('./commands/receipt.ts')).receipt,
  audit: async () => (await import('./commands/audit.ts')).audit,
  spam: async () => (await import('./commands/spam.ts')).spam,
  demo: async () => (await import('./commands/demo.ts')).demo,
  completion: async () => (await import('./commands/completion.ts')).completion,
}

const VERSION = ['-V', '--version']

/** With the command that the arguments name, or with every one. */
export async function buildProgram(terminal: Terminal, args?: readonly string[]): Promise<Command> {
  const program = new Command('cmesh')
    .description('A mesh of contracts, names and events on NATS: every request is authenticated and leaves a receipt.')
    .version(packageVersion(), VERSION.join(', '), 'print the version')
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
  const [first = ''] = args ?? []
  // A completion is made from all of them, and the version is none.
  if (!VERSION.includes(first)) await addCommands(program, terminal, COMMANDS, first === 'completion' ? undefined : args)
  return program
}

/** Runs one command line (without `node` and the script) and resolves with the exit code. Never rejects. */
export async function run(args: readonly string[], terminal: Terminal): Promise<number> {
  const json = args.includes('--json')
  try {
    await (await buildProgram(terminal, args)).parseAsync(args, { from: 'user' })
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
    const failure = ofFile(thrown)
    printFailure(terminal, failure, json)
    return exitCodeOf(failure)
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
