/**
 * The files of a broker's accounts in one directory: `accounts.json` with every key, and what is exported of it for servers and
 * nodes. Files with a key in them are the user's alone; nothing that a server or a person may have changed since is written over.
 */
import { access, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import { accountsText, exportConfig, readAccounts, type BrokerAccounts } from '../cmtp/identity/nats-accounts.ts'
import { decodeNatsJwt } from '../cmtp/identity/nats-jwt.ts'
import { PrivateFiles } from './private-files.ts'

/** Every key; what a node gets; what a server's configuration includes; a whole one to begin with; the resolver's directory. */
export const ACCOUNT_FILES = Object.freeze({ accounts: 'accounts.json', node: 'node.json', include: 'accounts.conf', server: 'nats.conf', resolver: 'jwt' })

export class AccountFiles {
  readonly directory: string
  readonly #private: PrivateFiles

  /** Nothing is read or made before it is asked for. */
  constructor(directory: string) {
    this.directory = path.resolve(directory)
    this.#private = new PrivateFiles(this.directory)
  }

  place(which: keyof typeof ACCOUNT_FILES): string {
    return path.join(this.directory, ACCOUNT_FILES[which])
  }

  /** What is kept with every key; `undefined` when there is none. Rejects with `CMESH_BROKER_ACCOUNTS`, as all that follow do. */
  whole(): Promise<BrokerAccounts | undefined> {
    return this.#read(this.place('accounts'))
  }

  /** The same of what a node gets. */
  node(): Promise<BrokerAccounts | undefined> {
    return this.#read(this.place('node'))
  }

  /** Keeps accounts with every key, in the place of what was kept. */
  async save(accounts: BrokerAccounts): Promise<void> {
    await this.#write(this.place('accounts'), accountsText(accounts))
  }

  /** A file that an earlier export left; `undefined` when there is none. */
  async exported(): Promise<string | undefined> {
    for (const file of [this.place('node'), this.place('include')]) if (await exists(file)) return file
    return undefined
  }

  /**
   * Writes what servers and nodes get. `serverDir` is where a server keeps its own files. A `nats.conf` that is there is a person's;
   * an account's file that is newer has revocations in it, and taking them back would let in who was kept out.
   */
  async export(accounts: BrokerAccounts, serverDir = this.directory): Promise<{ readonly written: readonly string[], readonly kept: readonly string[] }> {
    const { config, resolver, node } = exportConfig(accounts, path.join(serverDir, ACCOUNT_FILES.resolver))
    const written: string[] = [ACCOUNT_FILES.node]
    const kept: string[] = []
    const place = async (name: string, text: string, keep: (there: string) => boolean): Promise<void> => {
      const file = path.join(this.directory, name)
      const there = await readFile(file, 'utf8').catch(() => undefined)
      if (there !== undefined && keep(there)) return void kept.push(name)
      await replace(file, text)
      written.push(name)
    }
    await this.#write(this.place('node'), node)
    const about = '# Written by `cmesh operator export`. Include it in nats.conf of every server of the cluster.\n'
    await place(ACCOUNT_FILES.include, about + config, () => false)
    await place(ACCOUNT_FILES.server, serverText(serverDir), () => true)
    for (const [name, jwt] of Object.entries(resolver)) await place(path.join(ACCOUNT_FILES.resolver, name), jwt, there => isNewer(there, jwt))
    return { written, kept }
  }

  async #read(file: string): Promise<BrokerAccounts | undefined> {
    const value = await ofAccounts(() => this.#private.read(file))
    try {
      return value === undefined ? undefined : readAccounts(JSON.stringify(value))
    } catch (error) {
      if (!(error instanceof CMeshError) || error.code !== 'CMESH_BROKER_ACCOUNTS') throw error
      throw refused(file, String(error.detail['reason']), error)
    }
  }

  async #write(file: string, text: string): Promise<void> {
    await ofAccounts(() => this.#private.write(file, JSON.parse(text) as object, 'replace'))
  }
}

/** What a server needs for a mesh beside its accounts, with the bounds of the broker that a node starts. */
function serverText(dir: string): string {
  return `# Written by \`cmesh operator export\`; yours to change: it is not written again.
# On a network set its address and tls { } here, and cluster { } where there are several servers (docs/operator.md).
# No http here: that port has no login, and shows whoever reaches it each session's id, inbox and login.
server_name: "cmesh-1"
listen: "127.0.0.1:4222"
max_payload: 2MB
max_pending: 64MB
max_connections: 16384
# A node whose machine lost its power or its network is handed requests until the server has noticed: 10 to 15 s with these, minutes without.
ping_interval: "5s"
ping_max: 2
jetstream {
  store_dir: ${JSON.stringify(path.join(dir, 'store'))}
  # Without it a server on a disk that has become fuller reads no stream back whose bound is above three quarters of what is free.
  max_file_store: 4TB
}
include ./${ACCOUNT_FILES.include}
`
}

/** Whether a server put more into an account's file than was exported. Another operator's file is nothing to keep. */
function isNewer(there: string, ours: string): boolean {
  try {
    const [old, own] = [decodeNatsJwt(there.trim()), decodeNatsJwt(ours)]
    return old.iss === own.iss && old.iat > own.iat
  } catch {
    return false
  }
}

/** Whole or not at all: a server may read it meanwhile. These texts are public. */
async function replace(file: string, text: string): Promise<void> {
  const beside = `${file}.${process.pid}`
  try {
    await mkdir(path.dirname(file), { recursive: true })
    await writeFile(beside, text, { mode: 0o644 })
    await rename(beside, file)
  } catch (error) {
    await rm(beside, { force: true })
    throw refused(file, `it cannot be written (${String((error as NodeJS.ErrnoException).code)})`, error)
  }
}

/** The store of private files speaks of credentials; these are the broker's accounts. */
async function ofAccounts<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof CMeshError) || error.code !== 'CMESH_CLIENT_CREDENTIALS') throw error
    throw refused(String(error.detail['path']), String(error.detail['reason']), error)
  }
}

function refused(file: string, reason: string, cause: unknown): CMeshError {
  return new CMeshError('CMESH_BROKER_ACCOUNTS', { reason: `${file}: ${reason}` }, { cause })
}

function exists(file: string): Promise<boolean> {
  return access(file).then(() => true, () => false)
}
