/**
 * `cmesh contract`: from an empty directory to a contract that runs, and what comes after.
 *
 *   make      new · check · build · test · gas · client
 *   put up    deploy · replace · proxy · call
 *   look at   inspect · verify · dry-run
 *
 * Those that need no mesh work without one.
 */
import type { Command } from 'commander'
import { examples } from '../../command.ts'
import { addCommands, type Commands } from '../../commands.ts'
import type { Terminal } from '../../terminal.ts'

const COMMANDS: Commands = {
  new: async () => (await import('./new.ts')).make,
  check: async () => (await import('./check.ts')).check,
  build: async () => (await import('./build.ts')).build,
  test: async () => (await import('./test.ts')).test,
  gas: async () => (await import('./gas.ts')).gas,
  deploy: async () => (await import('./deploy.ts')).deploy,
  call: async () => (await import('./call.ts')).call,
  replace: async () => (await import('./replace.ts')).replace,
  proxy: async () => (await import('./proxy.ts')).proxy,
  verify: async () => (await import('./verify.ts')).verify,
  inspect: async () => (await import('./inspect.ts')).inspect,
  'dry-run': async () => (await import('./dry-run.ts')).dryRun,
  client: async () => (await import('./client.ts')).client,
}

export async function contract(program: Command, terminal: Terminal, args?: readonly string[]): Promise<void> {
  const group = program.command('contract').description('write, test, deploy and look at contracts')
    .addHelpText('after', examples(
      ['cmesh contract new counter', 'a contract with its test, in a directory of its own'],
      ['cmesh contract test counter', 'build it and run its tests'],
      ['cmesh contract deploy counter', 'put it on the mesh'],
    ))
  await addCommands(group, terminal, COMMANDS, args)
}
