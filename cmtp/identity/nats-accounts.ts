/**
 * The accounts of a mesh at its broker: an operator; SYS, where accounts are changed; CORE, where the services and JetStream are;
 * MESH, where sessions send requests and routers answer; GUEST, where newcomers shake hands. Owns what each account allows, the
 * file that keeps them, and the text a server is configured with. It reads and writes no file itself.
 *
 * An account's JWT is kept as the text it was made as. One made anew has a later `iat`, which counts for the server, and would
 * undo every revocation since: so it is made anew only where this version wants other rights, and then takes them along.
 */
import { CMeshError } from '../errors.ts'
import { CARRIED_WILDCARD, HELLO_WILDCARD, INBOX_PREFIX, MINE_WILDCARD, REQUEST_WILDCARD } from '../subject.ts'
import { canonicalJson } from './canonical-json.ts'
import { accountClaims, accountJwt, decodeNatsJwt, GUEST_ACCOUNT, GUEST_KEY_SEED, operatorJwt, type NatsAccount, type NatsClaims } from './nats-jwt.ts'
import { Nkey } from './nats-keys.ts'

export const ACCOUNT_NAMES = Object.freeze(['SYS', 'CORE', 'MESH', 'GUEST'] as const)
export type AccountName = (typeof ACCOUNT_NAMES)[number]

/** What one newcomer may hold of the broker, and all of them together: past it newcomers wait, and sessions do not notice. */
export const GUEST_LIMITS = Object.freeze({
  /** Connections at once. Each lasts for a handshake. */
  connections: 1_024,
  /** Subscriptions of one guest: it needs one. */
  subscriptions: 8,
  /** Largest message in bytes: a step of the handshake with its presentations, in a frame. */
  payloadBytes: 65_536,
})

/** What one session may hold of the broker, and all of them together. */
export const SESSION_LIMITS = Object.freeze({
  /**
   * Connections at once, those of the nodes among them: fewer than a server takes, less the guests', so that what fills the one account
   * leaves room for nodes, guests and the system. No server of NATS bounds those of one user.
   */
  connections: 15_000,
  /** Subscriptions of one connection. A client of ours has one, for everything; a server keeps each in memory, with its subject. */
  subscriptions: 16,
})

export interface BrokerAccount {
  readonly id: string
  /** Signs users with every right inside the account. */
  readonly signing: Nkey
  readonly jwt: string
}

export interface BrokerAccounts {
  readonly operatorJwt: string
  /** The operator's own key, which signs its JWT and nothing else. A node needs it never, and does not get it of `nodeText`. */
  readonly operator: Nkey | undefined
  /** The operator's signing key: it signs accounts. */
  readonly signing: Nkey
  /** Signs the logins of sessions; they get the rights of a template. */
  readonly session: Nkey
  readonly accounts: Readonly<Record<AccountName, BrokerAccount>>
}

/**
 * Fresh keys throughout. With `before` the accounts keep their ids, by which a server finds their streams, and nothing else. The
 * accounts' own keys are thrown away: their signing keys do all the work.
 */
export function makeAccounts(nowS: number, before?: BrokerAccounts): BrokerAccounts {
  const operator = Nkey.generate('operator')
  const signing = Nkey.generate('operator')
  const session = Nkey.generate('account')
  const keyed = Object.fromEntries(ACCOUNT_NAMES.map(name => [name, {
    id: name === 'GUEST' ? GUEST_ACCOUNT : before?.accounts[name].id ?? Nkey.generate('account').text, signing: Nkey.generate('account'),
  }])) as Record<AccountName, Omit<BrokerAccount, 'jwt'>>
  const accounts = Object.fromEntries(ACCOUNT_NAMES.map(name => [name, {
    ...keyed[name], jwt: accountJwt(signing, wanted(name, keyed, session), nowS),
  }])) as Record<AccountName, BrokerAccount>
  return { operatorJwt: operatorJwt(operator, { systemAccount: keyed.SYS.id, signing: signing.text, nowS }), operator, signing, session, accounts }
}

/** What this version wants of an account. */
function wanted(name: AccountName, keyed: Readonly<Record<AccountName, Omit<BrokerAccount, 'jwt'>>>, session: Nkey): NatsAccount {
  const { id, signing } = keyed[name]
  const base = { name, id, keys: [signing.text] }
  if (name === 'SYS') return base
  if (name === 'CORE') return { ...base, jetStream: true }
  if (name === 'MESH') {
    // The name of a session's user is its sid.
    const own = (wildcard: string): string => wildcard.replace('*', '{{name()}}')
    const publish = [own(REQUEST_WILDCARD), own(CARRIED_WILDCARD), own(HELLO_WILDCARD), `${own(HELLO_WILDCARD)}.*`, own(MINE_WILDCARD)]
    return {
      // No account exports anything to another: of what is carried across, the answer goes to any subject that a session names, and a
      // nats-server of 2.9 ends when that is a pattern. What sessions leave to be mined a node carries over (`services/miner/intake.ts`).
      ...base, connections: SESSION_LIMITS.connections,
      scopes: [{ key: session.text, role: 'session', publish, subscribe: [`${INBOX_PREFIX}{{name()}}.>`], subscriptions: SESSION_LIMITS.subscriptions }],
    }
  }
  // By its nkey and never by its name: a guest chooses its own name, `>` for one.
  const hello = HELLO_WILDCARD.replace('*', '{{subject()}}')
  return {
    ...base, connections: GUEST_LIMITS.connections,
    scopes: [{
      key: Nkey.fromSeed(GUEST_KEY_SEED).text, role: 'guest', publish: [hello, `${hello}.*`], subscribe: [`${INBOX_PREFIX}{{subject()}}.>`],
      subscriptions: GUEST_LIMITS.subscriptions, payloadBytes: GUEST_LIMITS.payloadBytes,
    }],
  }
}

/**
 * The same accounts where they say what this version wants; else with those made anew that do not. `stored` gives the JWT that a
 * server holds for an account, whose revocations go along. Throws `CMESH_IAM_KEY` for a stored text that is no JWT.
 */
export function currentAccounts(kept: BrokerAccounts, nowS: number, stored: (id: string) => string | undefined): BrokerAccounts {
  const changed = ACCOUNT_NAMES.map(name => [name, wanted(name, kept.accounts, kept.session)] as const)
    .filter(([name, account]) => !sameAccount(decodeNatsJwt(kept.accounts[name].jwt), account))
  if (changed.length === 0) return kept
  const anew = changed.map(([name, account]) => {
    const held = [kept.accounts[name].jwt, stored(account.id)].filter(text => text !== undefined).map(decodeNatsJwt)
    const iat = Math.max(nowS, ...held.map(claims => claims.iat + 1))
    const revocations = mergedRevocations(held.map(revocationsOf))
    const jwt = accountJwt(kept.signing, { ...account, ...(Object.keys(revocations).length > 0 && { revocations }) }, iat)
    return [name, { ...kept.accounts[name], jwt }]
  })
  return { ...kept, accounts: { ...kept.accounts, ...Object.fromEntries(anew) as Partial<Record<AccountName, BrokerAccount>> } }
}

/** Whether an account's JWT says what is wanted, its revocations aside. */
export function sameAccount(claims: NatsClaims, account: NatsAccount): boolean {
  const { revocations: _, ...says } = claims.nats
  const { revocations: __, ...wants } = accountClaims(account)
  return claims.sub === account.id && claims.name === account.name && canonicalJson(says) === canonicalJson(wants)
}

/** Who is kept out of an account: nkey to second. What is no such pair is left out. */
export function revocationsOf(claims: NatsClaims): Readonly<Record<string, number>> {
  const { revocations } = claims.nats
  if (typeof revocations !== 'object' || revocations === null) return {}
  return Object.fromEntries(Object.entries(revocations).filter((entry): entry is [string, number] => Number.isSafeInteger(entry[1])))
}

/** Each with its latest second. */
export function mergedRevocations(lists: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const merged: Record<string, number> = {}
  for (const list of lists) for (const [nkey, second] of Object.entries(list)) merged[nkey] = Math.max(merged[nkey] ?? 0, second)
  return merged
}

/** The accounts with their secrets, for a file of mode 0600. */
export function accountsText(kept: BrokerAccounts): string {
  return text(kept, kept.operator)
}

/** The same without the operator's own key: what a node at somebody else's broker needs. */
export function nodeText(kept: BrokerAccounts): string {
  return text(kept, undefined)
}

function text({ operatorJwt: jwt, signing, session, accounts }: BrokerAccounts, operator: Nkey | undefined): string {
  const written = Object.fromEntries(ACCOUNT_NAMES.map(name => [name, {
    id: accounts[name].id, signing: accounts[name].signing.exportSeed(), ...(name === 'MESH' && { session: session.exportSeed() }), jwt: accounts[name].jwt,
  }]))
  const value = { version: 1, operatorJwt: jwt, ...(operator && { operatorSeed: operator.exportSeed() }), signing: signing.exportSeed(), accounts: written }
  return `${JSON.stringify(value, undefined, 2)}\n`
}

/** What `accountsText` or `nodeText` wrote. Any text: throws `CMESH_BROKER_ACCOUNTS`, which quotes nothing of it. */
export function readAccounts(written: string): BrokerAccounts {
  try {
    const value = record(JSON.parse(written))
    if (value['version'] !== 1) throw refused('they are of another version')
    const list = record(value['accounts'])
    const operator = value['operatorSeed'] === undefined ? undefined : seed(value['operatorSeed'], 'operator')
    const accounts = Object.fromEntries(ACCOUNT_NAMES.map(name => {
      const { id, signing, jwt } = record(list[name])
      return [name, { id: String(id), signing: seed(signing, 'account'), jwt: String(jwt) }]
    })) as Record<AccountName, BrokerAccount>
    const kept = {
      operatorJwt: String(value['operatorJwt']), operator, signing: seed(value['signing'], 'operator'),
      session: seed(record(list['MESH'])['session'], 'account'), accounts,
    }
    checkTogether(kept)
    return kept
  } catch (error) {
    if (error instanceof CMeshError && error.code === 'CMESH_BROKER_ACCOUNTS') throw error
    // A parser's own words quote what it was given.
    throw refused(error instanceof CMeshError ? error.message : 'they are not JSON')
  }
}

/** Each key signed by the one above it: what a server would refuse later, and say less of. */
function checkTogether({ operatorJwt: jwt, operator, signing, session, accounts }: BrokerAccounts): void {
  const top = decodeNatsJwt(jwt)
  if (operator !== undefined && operator.text !== top.sub) throw refused('the operator\'s key is another one than its JWT names')
  if (top.nats['system_account'] !== accounts.SYS.id || !keysOf(top).includes(signing.text)) throw refused('the operator does not stand for these accounts')
  for (const name of ACCOUNT_NAMES) {
    const account = accounts[name]
    const claims = decodeNatsJwt(account.jwt)
    if (claims.sub !== account.id || claims.iss !== signing.text) throw refused(`the JWT of ${name} is another account's or another operator's`)
    if (!keysOf(claims).includes(account.signing.text)) throw refused(`the signing key of ${name} is none of its JWT`)
    if (name === 'MESH' && !keysOf(claims).includes(session.text)) throw refused('the key that signs sessions is none of MESH')
  }
  if (accounts.GUEST.id !== GUEST_ACCOUNT) throw refused('GUEST is not the account that newcomers know')
}

function keysOf(claims: NatsClaims): readonly unknown[] {
  const keys = claims.nats['signing_keys']
  return Array.isArray(keys) ? keys.map((key: unknown) => (typeof key === 'object' && key !== null ? (key as { key?: unknown }).key : key)) : []
}

/**
 * The lines of a server's configuration that make it one of these accounts. `resolverDir` is the server's own, and writable for it.
 * `timeout` is how long a server asks others for an account that it does not know: never for one of these, and always for the login that
 * a client kept of a mesh which is gone, whose user waits for that.
 */
export function serverConfig({ operatorJwt: jwt, accounts }: BrokerAccounts, resolverDir: string): string {
  return `operator: ${jwt}
system_account: ${accounts.SYS.id}
resolver { type: full, dir: ${JSON.stringify(resolverDir)}, allow_delete: false, interval: "2m", timeout: "100ms" }
resolver_preload {
${ACCOUNT_NAMES.map(name => `  ${accounts[name].id}: ${accounts[name].jwt}\n`).join('')}}
`
}

export interface ExportedAccounts {
  /** To include in `nats.conf` of each server. */
  readonly config: string
  /** Files of the resolver's directory: name to text. */
  readonly resolver: Readonly<Record<string, string>>
  /** `bus.accounts` of each node: a secret. */
  readonly node: string
}

/** The same accounts for servers that are somebody else's. */
export function exportConfig(kept: BrokerAccounts, resolverDir: string): ExportedAccounts {
  const resolver = Object.fromEntries(ACCOUNT_NAMES.map(name => [`${kept.accounts[name].id}.jwt`, kept.accounts[name].jwt]))
  return { config: serverConfig(kept, resolverDir), resolver, node: nodeText(kept) }
}

function seed(value: unknown, role: Nkey['role']): Nkey {
  const key = Nkey.fromSeed(String(value))
  if (key.role !== role) throw refused(`a key in them is not of an ${role}`)
  return key
}

function record(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw refused('a part of them is missing')
  return value as Record<string, unknown>
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_BROKER_ACCOUNTS', { reason })
}
