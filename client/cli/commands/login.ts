/** `cmesh login`: makes a session by a new handshake and keeps it. Other commands do the same by themselves when they must. */
import type { Command } from 'commander'
import { examples, fields, identities, meshOf, printResult, time, withClient, withMesh, type MeshOptions } from '../command.ts'
import type { Terminal } from '../terminal.ts'

interface SessionInfo {
  readonly sid: string
  readonly did: string
  readonly issued: number
  readonly expires: number
  readonly perms: readonly string[]
}

export function login(program: Command, terminal: Terminal): void {
  withMesh(program.command('login').description('make a session with the mesh, and an identity when there is none'))
    .addHelpText('after', examples(
      ['cmesh login', 'as your default identity'],
      ['cmesh login --identity work', 'as another one, made if need be'],
    ))
    .action(async (options: MeshOptions) => {
      const { url } = await meshOf(terminal, options)
      await identities(terminal).removeSession(url, options.identity)
      await withClient(terminal, options, async (client) => {
        const session = (await client.call('0xI:session', { signal: terminal.interrupted })).json<SessionInfo>()
        const { did, sid, expires, perms } = session
        const result = { did, mesh: client.mesh, url, sid, expiresAtMs: expires, permissions: perms }
        printResult(terminal, options, result, () => fields(terminal, [
          ['you', did],
          ['mesh', client.mesh ?? ''],
          ['url', url],
          ['session', `${sid}, until ${time(expires)} and renewed by use`],
          ...perms.map((permission, i): [string, string] => [i === 0 ? 'may' : '', permission]),
        ]))
      })
    })
}
