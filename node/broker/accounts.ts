/**
 * The broker's accounts on this node's disk: the file that keeps them, what the server stored of them, and the logins that the
 * node makes itself of their keys. Their meaning is `cmtp/identity/nats-accounts.ts`'s; here is where they are kept and how they
 * survive: a start, a new version that wants other rights, a data directory of the version before accounts.
 */
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { accountsText, ACCOUNT_NAMES, currentAccounts, makeAccounts, readAccounts, type BrokerAccount, type BrokerAccounts } from '../../cmtp/identity/nats-accounts.ts'
import { decodeNatsJwt, scopedUserJwt, userJwt, type NatsPermissions } from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'

export interface BrokerLogin {
  /** Seed of the nkey (`SU…`). Made for this process, never written anywhere. */
  readonly nkeySeed: string
  /** What the account says of that nkey. */
  readonly jwt: string
}

/** One login for each of the node's connections. */
export interface BrokerLogins {
  /** The services, in the account that has JetStream. */
  readonly core: BrokerLogin
  /** The router, in the account of sessions. */
  readonly mesh: BrokerLogin
  /** Where newcomers shake hands. */
  readonly door: BrokerLogin
  /** Looks accounts up and changes them. */
  readonly sys: BrokerLogin
}

/** Asks a server for an account's JWT. */
export const lookupSubject = (account: string): string => `$SYS.REQ.ACCOUNT.${account}.CLAIMS.LOOKUP`
/** Gives a server an account's new JWT. */
export const UPDATE_SUBJECT = '$SYS.REQ.CLAIMS.UPDATE'

const FILE = 'accounts.json'

/**
 * The accounts kept in `dir`, made there once, 0600 in a 0700 directory. `resolverDir` is where the server stores what it was
 * given. Rejects with `CMESH_BROKER_ACCOUNTS` for a file that others can read or that holds none.
 */
export async function keptAccounts(dir: string, resolverDir: string, nowS: number): Promise<BrokerAccounts> {
  const file = path.join(dir, FILE)
  await mkdir(resolverDir, { recursive: true, mode: 0o700 })
  const found = await readPrivate(file)
  if (found === undefined) {
    const fresh = makeAccounts(nowS)
    await save(file, fresh)
    await forgetStrangers(fresh, resolverDir)
    return fresh
  }
  const kept = readAccounts(found)
  const stored = await forgetStrangers(kept, resolverDir)
  const current = currentAccounts(kept, nowS, id => stored.get(id))
  if (current !== kept) await save(file, current)
  return current
}

/** The accounts that `bus.accounts` names. Rejects with `CMESH_BROKER_ACCOUNTS`. */
export async function givenAccounts(file: string): Promise<BrokerAccounts> {
  const found = await readPrivate(file)
  if (found === undefined) throw refused(`there is no file ${file}`)
  return readAccounts(found)
}

/** Fresh nkeys, which end with this process and so need no expiry. */
export function loginsOf({ accounts }: BrokerAccounts, nowS: number): BrokerLogins {
  const login = (name: string, account: BrokerAccount, permissions: NatsPermissions = {}): BrokerLogin => {
    const nkey = Nkey.generate('user')
    return { nkeySeed: nkey.exportSeed(), jwt: userJwt(account.signing, { nkey: nkey.text, name, account: account.id, nowS, ...permissions }) }
  }
  return {
    core: login('core', accounts.CORE),
    mesh: login('router', accounts.MESH),
    door: login('door', accounts.GUEST),
    sys: login('accounts', accounts.SYS, { publish: [UPDATE_SUBJECT, lookupSubject(accounts.MESH.id)], subscribe: ['_INBOX.>'] }),
  }
}

/** A session's login with an nkey of its own, without a handshake: for tests and benchmarks. */
export function sessionLogin({ accounts, session }: BrokerAccounts, sid: string, nowS: number): BrokerLogin {
  const nkey = Nkey.generate('user')
  return { nkeySeed: nkey.exportSeed(), jwt: scopedUserJwt(session, { nkey: nkey.text, name: sid, account: accounts.MESH.id, nowS }) }
}

/** The name that the services' account had before it had a key. */
const NAMED_CORE = 'CORE'

/**
 * JetStream keeps an account's streams in a directory of the account's name, which is its nkey now. Those that were kept under the
 * name go over, once; where streams are under the nkey already nothing is touched.
 */
export async function adoptNamedStreams(brokerDir: string, { accounts }: BrokerAccounts): Promise<void> {
  const [named, keyed] = [NAMED_CORE, accounts.CORE.id].map(name => path.join(brokerDir, 'jetstream', name)) as [string, string]
  if (await exists(named) && !await exists(keyed)) await rename(named, keyed)
}

/** What the server stored of these accounts. What another operator signed goes: a server that finds it would take nothing else before it is older. */
async function forgetStrangers({ accounts, signing }: BrokerAccounts, resolverDir: string): Promise<Map<string, string>> {
  const stored = new Map<string, string>()
  for (const { id } of ACCOUNT_NAMES.map(name => accounts[name])) {
    const file = path.join(resolverDir, `${id}.jwt`)
    const text = await readFile(file, 'utf8').catch(() => undefined)
    if (text === undefined) continue
    if (isBy(signing, text)) stored.set(id, text)
    else await rm(file, { force: true })
  }
  return stored
}

function isBy(signing: Nkey, text: string): boolean {
  try {
    return decodeNatsJwt(text).iss === signing.text
  } catch (error) {
    if (error instanceof CMeshError) return false
    throw error
  }
}

async function readPrivate(file: string): Promise<string | undefined> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new CMeshError('CMESH_BROKER_ACCOUNTS', { reason: `${file} cannot be read` }, { cause })
  }
  if (((await stat(file)).mode & 0o077) !== 0) throw refused(`${file} can be read by others; run chmod 600 on it`)
  return text
}

/** Whole or not at all. What a kill left beside it goes. */
async function save(file: string, accounts: BrokerAccounts): Promise<void> {
  const dir = path.dirname(file)
  await mkdir(dir, { recursive: true, mode: 0o700 })
  for (const name of await readdir(dir)) if (name.startsWith(`${FILE}.`)) await rm(path.join(dir, name))
  const beside = `${file}.${process.pid}`
  await writeFile(beside, accountsText(accounts), { mode: 0o600, flag: 'wx', flush: true })
  await rename(beside, file)
}

function exists(file: string): Promise<boolean> {
  return stat(file).then(() => true, () => false)
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_BROKER_ACCOUNTS', { reason })
}
