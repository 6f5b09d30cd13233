/**
 * Commands and where they are. Each is loaded when the command line names it: all of them take longer to load than most take to run. Who
 * asks what there is, by help or by a wrong name, has all of them loaded.
 */
import type { Command } from 'commander'
import type { Terminal } from './terminal.ts'

/** Adds a command to its parent. `args`: what follows its name on the command line; `undefined` for all it has. */
type Add = (parent: Command, terminal: Terminal, args?: readonly string[]) => void | Promise<void>

/** By name, in the order in which help lists them. */
export type Commands = Readonly<Record<string, () => Promise<Add>>>

/** Adds the command that the arguments begin with; all of them where that is none. */
export async function addCommands(parent: Command, terminal: Terminal, commands: Commands, args: readonly string[] = []): Promise<void> {
  const [name = '', ...rest] = args
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (load !== undefined) return (await load())(parent, terminal, rest)
  for (const each of Object.values(commands)) await (await each())(parent, terminal)
}
