/**
 * `cmesh login`: makes a session by a new handshake and keeps it, after it has shown what it is about to sign. Other commands make
 * one by themselves when they must, and ask nobody.
 */
import type { Command } from 'commander'
import type { GrantMessage } from '../../../cmtp/identity/messages.ts'
import { CredentialStore } from '../../credential-store.ts'
import { usage } from '../../options.ts'
import { examples, fields, identities, meshOf, printResult, time, withClient, withMesh, type MeshOptions } from '../command.ts'
import { consentFields } from '../consent.ts'
import { keepRotation } from './identity-rotation.ts'
import type { Terminal } from '../terminal.ts'

interface LoginOptions extends MeshOptions {
  readonly attribute?: readonly string[]
  readonly yes?: boolean
  readonly commit?: boolean
}

interface SessionInfo {
  readonly sid: string
  readonly did: string
  readonly expires: number
  readonly perms: readonly string[]
}

export function login(program: Command, terminal: Terminal): void {
  withMesh(program.command('login').description('make a session with the mesh, and an identity when there is none'))
    .option('--attribute <ids...>', 'attributes to show, from credentials you hold: <type>#<claim>, or <type>#<claim>@<issuer>')
    .option('--commit', 'commit an imported identity to a next root as well: it is nobody\'s next root itself')
    .option('-y, --yes', 'consent without being asked, for scripts')
    .addHelpText('after', examples(
      ['cmesh login', 'as your default identity; it shows what you consent to, and asks'],
      ['cmesh login --identity work --yes', 'as another one, made if need be, without asking'],
      ['cmesh login --attribute https://example.org/age#over_18', 'with an attribute; cmesh attribute list shows yours'],
    ))
    .action(async (options: LoginOptions) => {
      if (options.yes !== true && !terminal.answers) {
        throw usage('Nobody is there to ask for consent: give it beforehand by --yes, or log in on a terminal.')
      }
      const { url } = await meshOf(terminal, options)
      await identities(terminal).removeSession(url, options.identity)
      let granted: GrantMessage | undefined
      const approve = (grant: GrantMessage): boolean | Promise<boolean> => {
        granted = grant
        terminal.note('This is what you consent to:')
        for (const line of fields(terminal, consentFields(grant))) terminal.note(`  ${line}`)
        return options.yes === true || terminal.confirm('Sign it?')
      }
      await withClient(terminal, options, async (client) => {
        const session = (await client.call('0xI:session', { signal: terminal.interrupted })).json<SessionInfo>()
        await keepRotation(terminal, options, client)
        const { did, sid, expires, perms } = session
        const attributes = granted?.claims ?? []
        const result = { did, mesh: client.mesh, url, sid, expiresAtMs: expires, permissions: perms, assurance: granted?.aal, attributes }
        printResult(terminal, options, result, () => fields(terminal, [
          ['you', did],
          ['mesh', client.mesh ?? ''],
          ['url', url],
          ['session', `${sid}, until ${time(expires)} and renewed by use`],
          ...perms.map((permission, i): [string, string] => [i === 0 ? 'may' : '', permission]),
        ]))
      }, { approve, ...presenting(terminal, options) })
    })
}

/** What is presented is bound to the handshake that asks, and made when it does. */
function presenting(terminal: Terminal, { identity = 'default', attribute = [] }: LoginOptions): Parameters<typeof withClient>[3] {
  if (attribute.length === 0) return {}
  return {
    present: async ({ audience, transcript }) => {
      const store = identities(terminal)
      const own = await store.loadOrCreateIdentity(identity)
      const to = { audience, nonce: transcript, nowS: Math.floor(Date.now() / 1_000) }
      return await new CredentialStore(store.directory).present(identity, own, attribute, to)
    },
  }
}
