/** `cmesh authz`: who may do what in the mesh, and why. What it changes is ordered like any other write, and counts on every node alike. */
import { InvalidArgumentError, type Command } from 'commander'
import { usage } from '../../options.ts'
import { didFrom, examples, fields, integerFrom, printResult, time, withClient, withMesh, type MeshOptions } from '../command.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'

interface Condition {
  readonly notBefore?: number
  readonly notAfter?: number
  readonly aal?: number
  readonly attribute?: { readonly id: string, readonly value?: string, readonly issuer: string }
}

interface Grant extends Condition {
  readonly id: string
  readonly perm: string
  readonly by: string
}

interface Reason {
  readonly from: string
  readonly perm: string
  readonly id?: string
  readonly by?: string
  readonly condition?: Condition
}

interface Explanation {
  readonly allowed: boolean
  readonly by: readonly Reason[]
  readonly conditional: readonly Reason[]
  readonly missing: string | null
  readonly banned: boolean
  readonly rotatedTo?: string
}

interface Holdings {
  readonly did: string
  readonly perms: readonly string[]
  readonly grants: readonly Grant[]
  readonly banned: boolean
  readonly rotatedTo?: string
  readonly rotatedFrom?: readonly string[]
}

interface RevokeOptions extends MeshOptions {
  readonly all?: boolean
  readonly ban?: boolean
  readonly unban?: boolean
  readonly reason?: string
}

export function authz(program: Command, terminal: Terminal): void {
  const group = program.command('authz').description('say who may do what, and ask why')
    .addHelpText('after', examples(
      ['cmesh authz grant did:key:z6Mk… "deploy 0xSW:0x000:deploy"', 'whoever that is may deploy from now on'],
      ['cmesh authz explain did:key:z6Mk… 0xSW:0x002:increment', 'by which grant it may, or what is missing'],
      ['cmesh authz revoke did:key:z6Mk… --ban --reason spam', 'out, at once and on every node'],
    ))

  withMesh(group.command('grant').description('let an identity do something'))
    .argument('<did>', 'who', didFrom)
    .argument('<permission>', 'actions, one space, and a pattern of addresses: "read,write 0xSW:0x002:>"')
    .option('--not-before <time>', 'from when it counts, ISO 8601', timeFrom)
    .option('--not-after <time>', 'until when it counts, ISO 8601', timeFrom)
    .option('--aal <level>', 'least assurance of the session, 1 or 2', integerFrom(1, 2))
    .option('--attribute <text>', 'what the session must have shown: id@issuer, or id=value@issuer', attributeFrom)
    .addHelpText('after', examples(
      ['cmesh authz grant did:key:z6Mk… "read,write 0xSW:0x002:>"', 'all functions of a contract'],
      ['cmesh authz grant did:key:z6Mk… "write 0xSW:0x001:say" --not-after 2030-01-31 --aal 2', 'until then, for surer sessions'],
    ))
    .addHelpText('after', '\nOne grants no more than one holds oneself. It counts in sessions that begin after it: `cmesh login` begins one.')
    .action((did: string, permission: string, options: MeshOptions & Condition) => withClient(terminal, options, async (client) => {
      const { notBefore, notAfter, aal, attribute } = options
      if (notBefore !== undefined && notAfter !== undefined && notAfter <= notBefore) throw usage('--not-after must be later than --not-before.')
      const body = JSON.stringify({ did, permission, notBefore, notAfter, aal, attribute })
      const grant = (await client.call('0xIW:grant', { body, signal: terminal.interrupted })).json<Grant>()
      printResult(terminal, options, grant, () => fields(terminal, [['granted', grant.perm], ['to', did], ['id', grant.id], ...conditionFields(grant)]))
    }))

  withMesh(group.command('revoke').description('take a grant back, or ban an identity'))
    .argument('<did>', 'whose', didFrom)
    .argument('[grant]', 'the grant, by its id or by its permission')
    .option('--all', 'all of its grants')
    .option('--ban', 'let it do nothing any more, not even read, and end its sessions')
    .option('--unban', 'lift its ban')
    .option('--reason <text>', 'why it is banned, for the record')
    .addHelpText('after', examples(
      ['cmesh authz revoke did:key:z6Mk… "write 0xSW:0x002:>"', 'this grant'],
      ['cmesh authz revoke did:key:z6Mk… --ban --reason spam', 'everything, and its sessions end'],
    ))
    .action(async (did: string, grant: string | undefined, options: RevokeOptions) => {
      const { action, body } = revocationOf(did, grant, options)
      await withClient(terminal, options, async (client) => {
        const done = (await client.call(`0xIW:${action}`, { body: JSON.stringify(body), signal: terminal.interrupted })).json<{ revoked?: readonly Grant[] }>()
        printResult(terminal, options, done, () => (done.revoked === undefined
          ? [`${action === 'ban' ? 'banned' : 'not banned any more'}: ${did}`]
          : done.revoked.map(({ id, perm }) => `revoked ${id} ${perm}`)))
      })
    })

  withMesh(group.command('list').description('list what an identity was granted'))
    .argument('[did]', 'whose; others\' only for who may grant (default: yours)', didFrom)
    .addHelpText('after', examples(
      ['cmesh authz list', 'what you may do, and by whom'],
      ['cmesh authz list did:key:z6Mk… --json', 'another\'s, as one JSON document'],
    ))
    .action((did: string | undefined, options: MeshOptions) => withClient(terminal, options, async (client) => {
      const fqmn = did === undefined ? '0xI:grants' : `0xI:grants:${JSON.stringify([did])}`
      const held = (await client.call(fqmn, { signal: terminal.interrupted })).json<Holdings>()
      printResult(terminal, options, held, () => [
        ...fields(terminal, [
          ['did', held.did], ...(held.banned ? [['banned', 'yes'] as const] : []),
          ...(held.rotatedTo === undefined ? [] : [['rotated to', held.rotatedTo] as const]),
          ...(held.rotatedFrom ?? []).map((from, i) => [i === 0 ? 'rotated from' : '', from] as const),
          ...held.perms.map((perm, i): [string, string] => [i === 0 ? 'may' : '', perm]),
        ]),
        ...(held.grants.length === 0 ? [] : table(
          held.grants.map(grant => [grant.id, grant.perm, grant.by, conditionFields(grant).map(([name, value]) => `${name} ${value}`).join(', ')]),
          { boxes: terminal.resultsAreSeen, head: ['grant', 'permission', 'by', 'if'] },
        )),
      ])
    }))

  withMesh(group.command('explain').description('say why an identity may call an address, or what it lacks'))
    .argument('<did>', 'who; others only for who may grant', didFrom)
    .argument('<fqmn>', 'the address')
    .addHelpText('after', examples(['cmesh authz explain did:key:z6Mk… 0xSW:0x002:increment', 'which grant allows it, or what is missing']))
    .action((did: string, fqmn: string, options: MeshOptions) => withClient(terminal, options, async (client) => {
      const why = (await client.call(`0xI:explain:${JSON.stringify([did, fqmn])}`, { signal: terminal.interrupted })).json<Explanation>()
      printResult(terminal, options, why, () => explanationLines(terminal, why))
    }))
}

function explanationLines(terminal: Terminal, { allowed, by, conditional, missing, banned, rotatedTo }: Explanation): string[] {
  const line = ({ from, perm, id, by: who, condition }: Reason): string => {
    const more = [from, ...(id === undefined ? [] : [id]), ...(who === undefined ? [] : [`by ${who}`]), ...conditionFields(condition ?? {}).map(([name, value]) => `${name} ${value}`)]
    return `  ${perm}  ${terminal.style('dim', more.join(' · '))}`
  }
  const lacking = conditional.length > 0 ? 'depends on the session' : `denied: it lacks ${missing ?? ''}`
  return [
    allowed ? terminal.style('green', 'allowed') : outOf(banned, rotatedTo) ?? lacking,
    ...by.map(line),
    ...(conditional.length === 0 ? [] : ['under a condition:', ...conditional.map(line)]),
  ]
}

function outOf(banned: boolean, rotatedTo: string | undefined): string | undefined {
  return rotatedTo !== undefined ? `denied: it was rotated to ${rotatedTo}` : banned ? 'denied: it is banned' : undefined
}

function conditionFields({ notBefore, notAfter, aal, attribute }: Condition): [string, string][] {
  const attributeText = attribute === undefined ? '' : `${attribute.id}${attribute.value === undefined ? '' : `=${attribute.value}`}@${attribute.issuer}`
  return [
    ...(notBefore === undefined ? [] : [['not before', time(notBefore)] as [string, string]]),
    ...(notAfter === undefined ? [] : [['not after', time(notAfter)] as [string, string]]),
    ...(aal === undefined ? [] : [['aal', String(aal)] as [string, string]]),
    ...(attribute === undefined ? [] : [['attribute', attributeText] as [string, string]]),
  ]
}

function revocationOf(did: string, grant: string | undefined, { all, ban, unban, reason }: RevokeOptions): { action: string, body: object } {
  const ways = [grant !== undefined, all === true, ban === true, unban === true].filter(Boolean).length
  if (ways !== 1) throw usage('Say what to take back: one grant by its id or permission, --all, --ban, or --unban.')
  if (reason !== undefined && ban !== true) throw usage('--reason belongs to --ban.')
  if (ban === true) return { action: 'ban', body: { did, ...(reason !== undefined && { reason }) } }
  if (unban === true) return { action: 'unban', body: { did } }
  if (grant === undefined) return { action: 'ungrant', body: { did, all: true } }
  return { action: 'ungrant', body: grant.includes(' ') ? { did, permission: grant } : { did, id: grant } }
}

function timeFrom(text: string): number {
  const ms = Date.parse(text)
  if (!/^\d{4}-\d{2}-\d{2}/.test(text) || Number.isNaN(ms)) throw new InvalidArgumentError('It must be a time like 2030-01-31 or 2030-01-31T12:00:00Z.')
  return ms
}

function attributeFrom(text: string): Condition['attribute'] {
  const at = text.lastIndexOf('@')
  const issuer = text.slice(at + 1)
  const [id = '', ...value] = text.slice(0, Math.max(0, at)).split('=')
  if (id === '' || issuer === '') throw new InvalidArgumentError('It must be id@issuer or id=value@issuer.')
  return { id, ...(value.length > 0 && { value: value.join('=') }), issuer }
}
