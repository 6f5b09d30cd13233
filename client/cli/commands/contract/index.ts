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
import type { Terminal } from '../../terminal.ts'
import { build } from './build.ts'
import { call } from './call.ts'
import { check } from './check.ts'
import { client } from './client.ts'
import { deploy } from './deploy.ts'
import { dryRun } from './dry-run.ts'
import { gas } from './gas.ts'
import { inspect } from './inspect.ts'
import { make } from './new.ts'
import { proxy } from './proxy.ts'
import { replace } from './replace.ts'
import { test } from './test.ts'
import { verify } from './verify.ts'

const COMMANDS = [make, check, build, test, gas, deploy, call, replace, proxy, verify, inspect, dryRun, client]

export function contract(program: Command, terminal: Terminal): void {
  const group = program.command('contract').description('write, test, deploy and look at contracts')
    .addHelpText('after', examples(
      ['cmesh contract new counter', 'a contract with its test, in a directory of its own'],
      ['cmesh contract test counter', 'build it and run its tests'],
      ['cmesh contract deploy counter', 'put it on the mesh'],
    ))
  for (const add of COMMANDS) add(group, terminal)
}
