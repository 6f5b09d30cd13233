/** `cmesh capability`: rights handed on by file, from one identity to the next. Making one tells nobody; importing one is an order. */
import { readFile, writeFile } from 'node:fs/promises'
import { InvalidArgumentError, type Command } from 'commander'
import { CAPABILITY_LIMITS, checkChain, formatCapabilityFile, makeLink, parseCapabilityFile } from '../../../cmtp/identity/capability.ts'
import type { KeyPair } from '../../../cmtp/identity/keys.ts'
import { formatPermissions, intersectPermissions, isCovered, parsePermission, parsePermissions, type Permission } from '../../../cmtp/permission.ts'
import type { MeshClient } from '../../mesh-client.ts'
import { usage } from '../../options.ts'
import { didFrom, examples, fields, identities, integerFrom, printResult, time, withClient, withMesh, type MeshOptions } from '../command.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'

interface HandOnOptions extends MeshOptions {
  readonly expires?: number
  readonly depth?: number
  readonly out: string
}

interface Held {
  readonly root: string
  readonly perms: readonly string[]
  readonly exp: number
  readonly links: readonly { readonly jti: string }[]
  readonly live: boolean
}

const DEFAULT_LIFE_S = 30 * 86_400
const UNITS_S: Readonly<Record<string, number>> = { m: 60, h: 3_600, d: 86_400 }

export function capability(program: Command, terminal: Terminal): void {
  const group = program.command('capability').description('hand rights on to others by file')
    .addHelpText('after', examples(
      ['cmesh capability export did:key:z6Mk… "write 0xSW:0x002:>" --out ben.cap', 'Ben may, as far as you may yourself'],
      ['cmesh capability import ben.cap', 'Ben, on the mesh it is for'],
      ['cmesh capability delegate ben.cap did:key:z6Mk… --out cat.cap', 'Ben, to Cat: as much or less'],
    ))

  const handsOn = (command: Command): Command => withMesh(command)
    .option('--expires <time>', 'how long it counts: so many minutes, hours or days, as 30m, 12h, 30d (default: 30d)', lifeFrom)
    .option('--depth <n>', 'how often it may be handed on, 0 to 4 (default: one time less than it was to you; in a new one not at all)', depthFrom)
    .requiredOption('--out <file>', 'the file to write; one that exists is not written over')

  handsOn(group.command('export').description('make a capability: your own rights, for somebody else'))
    .argument('<did>', 'for whom', didFrom)
    .argument('<permissions...>', 'each: actions, one space, and a pattern of addresses')
    .addHelpText('after', examples(
      ['cmesh capability export did:key:z6Mk… "write 0xSW:0x002:>" --out ben.cap', 'for 30 days, not to be handed on'],
      ['cmesh capability export did:key:z6Mk… "write 0xSW:0x002:>" --depth 1 --expires 12h --out ben.cap', 'once more, for half a day'],
    ))
    .addHelpText('after', '\nIt gives as much as you may do by your own grants at the moment when it is used; a warning says where that is less now.')
    .action((did: string, texts: string[], options: HandOnOptions) => withClient(terminal, options, async (client) => {
      const issuer = await identityOf(terminal, options)
      const permissions = parsePermissions(texts)
      const link = makeLink({
        issuer, to: did, mesh: await meshDid(client), permissions, depth: options.depth ?? 0,
        ...livesFor(options.expires ?? DEFAULT_LIFE_S),
      })
      await save(terminal, options, client, [link])
      for (const line of await beyondOwn(client, permissions, terminal.interrupted)) terminal.note(`warning: ${line}`)
    }))

  handsOn(group.command('delegate').description('hand a capability of yours on, or less of it'))
    .argument('<file>', 'the capability that was handed to you')
    .argument('<did>', 'to whom', didFrom)
    .argument('[permissions...]', 'what of it (default: all)')
    .addHelpText('after', examples(['cmesh capability delegate ben.cap did:key:z6Mk… "write 0xSW:0x002:increment" --out cat.cap', 'less than you were handed']))
    .action((file: string, did: string, texts: string[], options: HandOnOptions) => withClient(terminal, options, async (client) => {
      const issuer = await identityOf(terminal, options)
      const mesh = await meshDid(client)
      const links = await read(file)
      const before = checkChain(links, { mesh, nowS: nowS() })
      if (before.holder !== issuer.did) throw usage(`${file} was handed to ${before.holder}, not to you.`)
      const life = livesFor(options.expires ?? DEFAULT_LIFE_S)
      const link = makeLink({
        issuer, to: did, mesh, permissions: texts.length === 0 ? before.permissions : parsePermissions(texts), parent: links.at(-1) as string,
        depth: options.depth ?? Math.max(0, (before.links.at(-1)?.dep ?? 0) - 1), ...life, exp: Math.min(life.exp, before.exp),
      })
      await save(terminal, options, client, [...links, link])
    }))

  withMesh(group.command('import').description('present a capability that was handed to you'))
    .argument('<file>', 'the capability')
    .addHelpText('after', examples(['cmesh capability import ben.cap', 'yours from now on']))
    .addHelpText('after', '\nIt counts in sessions that begin after it: `cmesh login` begins one.')
    .action((file: string, options: MeshOptions) => withClient(terminal, options, async (client) => {
      const body = JSON.stringify({ links: await read(file) })
      const taken = (await client.call('0xIW:capability', { body, signal: terminal.interrupted })).json<{ root: string, perms: readonly string[], exp: number, jti: string }>()
      printResult(terminal, options, taken, () => fields(terminal, [['imported', taken.jti], ['rights of', taken.root], ['until', time(taken.exp * 1_000)], ...permissionFields(taken.perms)]))
    }))

  withMesh(group.command('revoke').description('take back a link that you made, and all that was handed on from it'))
    .argument('<jti>', 'the link, as export, delegate and list name it', linkFrom)
    .addHelpText('after', examples(['cmesh capability revoke 2hVnMfZ1kzJ0q5Q0cQmK1A', 'whoever holds it by that link holds it no more']))
    .action((jti: string, options: MeshOptions) => withClient(terminal, options, async (client) => {
      const done = (await client.call('0xIW:uncapability', { body: JSON.stringify({ jti }), signal: terminal.interrupted })).json<{ jti: string }>()
      printResult(terminal, options, done, () => [`revoked ${done.jti}`])
    }))

  withMesh(group.command('list').description('list the capabilities that you imported'))
    .addHelpText('after', examples(['cmesh capability list', 'with whose rights they are, and until when']))
    .action((options: MeshOptions) => withClient(terminal, options, async (client) => {
      const held = (await client.call('0xI:capabilities', { signal: terminal.interrupted })).json<{ capabilities: readonly Held[] }>()
      printResult(terminal, options, held, () => (held.capabilities.length === 0 ? ['none'] : table(
        held.capabilities.map(({ root, perms, exp, links, live }) => [links.at(-1)?.jti ?? '', perms.join(', '), root, live ? time(exp * 1_000) : 'counts no more']),
        { boxes: terminal.resultsAreSeen, head: ['link', 'permissions', 'rights of', 'until'] },
      )))
    }))
}

/** Checks the chain as the mesh will, writes it, and shows what it is. */
async function save(terminal: Terminal, options: HandOnOptions, client: MeshClient, links: readonly string[]): Promise<void> {
  const made = checkChain(links, { mesh: await meshDid(client), nowS: nowS() })
  try {
    // A file that exists may be the only place where another capability's link stands.
    await writeFile(options.out, formatCapabilityFile(links), { mode: 0o600, flag: 'wx' })
  } catch (cause) {
    throw usage(`The capability cannot be written to ${options.out}: ${cause instanceof Error ? cause.message : String(cause)}.`)
  }
  const { jti = '' } = made.links.at(-1) ?? {}
  const perms = formatPermissions(made.permissions)
  printResult(terminal, options, { file: options.out, jti, root: made.root, holder: made.holder, perms, exp: made.exp }, () => fields(terminal, [
    ['file', options.out], ['link', jti], ['rights of', made.root], ['for', made.holder], ['until', time(made.exp * 1_000)], ...permissionFields(perms),
  ]))
}

/** What of the permissions is not the issuer's to hand on today. Making a capability is none of the mesh's business, so that it is said and not refused. */
async function beyondOwn(client: MeshClient, permissions: readonly Permission[], signal: AbortSignal): Promise<string[]> {
  let own: readonly Permission[]
  try {
    own = (await client.call('0xI:grants', { signal })).json<{ readonly perms: readonly string[] }>().perms.map(parsePermission)
  } catch (error) {
    return [`whether you may do this yourself was not looked at: ${error instanceof Error ? error.message : String(error)}`]
  }
  return permissions.filter(each => !isCovered(each, own)).map((each) => {
    const common = formatPermissions(intersectPermissions([each], own))
    const asked = formatPermissions([each]).join()
    return common.length === 0 ? `you may not \`${asked}\` yourself: the capability gives nothing of that as long as you may not`
      : `of \`${asked}\` you may yourself only \`${common.join(', ')}\`: the capability gives no more as long as you may not`
  })
}

async function read(file: string): Promise<readonly string[]> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    throw usage(`The capability ${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}.`)
  }
  return parseCapabilityFile(text)
}

async function identityOf(terminal: Terminal, { identity }: MeshOptions): Promise<KeyPair> {
  return identities(terminal).loadOrCreateIdentity(identity)
}

async function meshDid(client: MeshClient): Promise<string> {
  if (client.mesh === undefined) await client.whoami()
  return client.mesh as string
}

function permissionFields(perms: readonly string[]): [string, string][] {
  return perms.map((perm, i) => [i === 0 ? 'may' : '', perm])
}

const depthFrom = integerFrom(0, CAPABILITY_LIMITS.links - 1)

function linkFrom(text: string): string {
  if (!/^[A-Za-z0-9_-]{22}$/.test(text)) throw new InvalidArgumentError('It must be a link\'s name of 22 characters, as `cmesh capability export` printed it.')
  return text
}

function nowS(): number {
  return Math.floor(Date.now() / 1_000)
}

function livesFor(seconds: number): { nowS: number, exp: number } {
  const now = nowS()
  return { nowS: now, exp: now + seconds }
}

function lifeFrom(text: string): number {
  const [, count = '', unit = ''] = /^(\d{1,5})([mhd])$/.exec(text) ?? []
  const seconds = Number(count) * (UNITS_S[unit] ?? 0)
  if (seconds === 0) throw usage('A time to live is so many minutes, hours or days: 30m, 12h, 30d.')
  return seconds
}
