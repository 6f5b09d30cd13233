/**
 * Credentials of the person at this machine, under the user's config directory: `credentials/<hash>.json` holds one, with the key it
 * is bound to when that is not an identity's own; `credential-keys/<key>.json` a key that none was issued for yet. A credential
 * with a key of its own is shown once: it is taken out before it is presented, so that no two presentations of it can exist.
 */
import { hash } from 'node:crypto'
import { join } from 'node:path'
import { openCredential, presentCredential, type Credential, type Presentation } from '../cmtp/identity/credential.ts'
import { didToSegment } from '../cmtp/identity/did.ts'
import { KeyPair } from '../cmtp/identity/keys.ts'
import { MAX_PRESENTATIONS } from '../cmtp/identity/proof.ts'
import { usage } from './options.ts'
import { configDirectory, fieldsOf, keyOf, PrivateFiles, unusable } from './private-files.ts'

interface CredentialFile {
  readonly version: 1
  /** Name of the identity that holds it. */
  readonly identity: string
  readonly credential: string
  /** base64url of the seed of the key it is bound to, a secret; absent when that is the identity's own. */
  readonly seed?: string
}

interface KeyFile {
  readonly version: 1
  readonly identity: string
  readonly seed: string
}

/** Most keys that are made at once. */
export const BATCH_MOST = 100

export interface HeldCredential extends Omit<Credential, 'holder'> {
  /** It has a key of its own, and is shown once. */
  readonly oneTime: boolean
}

interface Held extends HeldCredential {
  readonly path: string
  readonly text: string
  readonly key: KeyPair
}

export class CredentialStore {
  readonly directory: string
  readonly #files: PrivateFiles

  /** Nothing is read or made before it is asked for. */
  constructor(directory: string = configDirectory()) {
    this.directory = directory
    this.#files = new PrivateFiles(directory)
  }

  /** Makes 1 to 100 keys for credentials that are each shown once, and resolves with their DIDs, for an issuer. */
  async makeKeys(identity: string, count: number): Promise<string[]> {
    if (!Number.isSafeInteger(count) || count < 1 || count > BATCH_MOST) throw usage(`A batch has 1 to ${BATCH_MOST} credentials.`)
    const keys = Array.from({ length: count }, () => KeyPair.generate())
    for (const key of keys) {
      const file: KeyFile = { version: 1, identity, seed: key.exportSeed().toString('base64url') }
      await this.#files.write(this.#keyPath(key.did), file, 'create')
    }
    return keys.map(({ did }) => did)
  }

  /**
   * Keeps a credential that was issued to the identity's own DID or to one of its `makeKeys`. Rejects with `CMESH_IAM_CREDENTIAL` for
   * one that is malformed or not signed by its issuer, and with `CMESH_CLIENT_USAGE` for one that is bound to another key.
   */
  async hold(identity: string, own: KeyPair, text: string): Promise<HeldCredential> {
    const credential = await openCredential(text)
    const { did } = credential.holder
    const path = this.#credentialPath(text)
    if (did === own.did) {
      await this.#files.write(path, { version: 1, identity, credential: text } satisfies CredentialFile, 'create')
      return shown(credential, false)
    }
    const keyPath = this.#keyPath(did)
    const { version, identity: owner, seed } = fieldsOf(await this.#files.read(keyPath))
    if (version !== 1 || owner !== identity || typeof seed !== 'string') {
      throw usage(`The credential is bound to ${did}, which is no key of the identity ${identity}.`)
    }
    await this.#files.write(path, { version: 1, identity, credential: text, seed } satisfies CredentialFile, 'create')
    // From here on the key is the credential's: another one bound to it could be linked to this one.
    await this.#files.remove(keyPath)
    return shown(credential, true)
  }

  /** What the identity holds, by type and expiry. Rejects with `CMESH_CLIENT_CREDENTIALS` for a file that is open to others or none. */
  async list(identity: string, own: KeyPair): Promise<HeldCredential[]> {
    return (await this.#held(identity, own)).map(each => shown(each, each.oneTime))
  }

  /**
   * Presentations that show these attributes and no other, from as few credentials as will do, those that are shown once before
   * others. `wanted`: ids, each followed by `@` and its issuer's DID where that matters. What is shown once is gone, whatever comes
   * of it. Rejects with `CMESH_CLIENT_USAGE` for an attribute that is not held or has expired, or more than 4 credentials.
   */
  async present(identity: string, own: KeyPair, wanted: readonly string[], to: Presentation): Promise<string[]> {
    const missing = new Set(wanted)
    let held = (await this.#held(identity, own)).filter(({ expires }) => expires > to.nowS)
    const presentations: string[] = []
    while (missing.size > 0) {
      // Whole before each step: nothing is used up for a presentation that lacks something else.
      const plan = planOf(held, missing)
      if (plan === undefined) throw notHeld(identity, [...missing].join(', '))
      if (presentations.length + plan.length > MAX_PRESENTATIONS) throw usage(`At most ${MAX_PRESENTATIONS} credentials are presented at once.`)
      const [{ credential, ids }] = plan
      held = held.filter(each => each !== credential)
      // Another process may have shown it meanwhile.
      if (credential.oneTime && !await this.#files.take(credential.path)) continue
      for (const each of ids) missing.delete(each)
      const names = new Set(ids.map(each => idOf(each).slice(credential.vct.length + 1)))
      presentations.push(await presentCredential(credential.text, [...names], { ...to, holder: credential.key }))
    }
    return presentations
  }

  async #held(identity: string, own: KeyPair): Promise<Held[]> {
    const directory = join(this.directory, 'credentials')
    const names = (await this.#files.names(directory)).filter(name => /^[0-9a-f]{32}\.json$/.test(name))
    const all = await Promise.all(names.map(async (name) => {
      const path = join(directory, name)
      const value = await this.#files.read(path)
      return value === undefined ? undefined : await readHeld(path, value, identity, own)
    }))
    return all.filter(each => each !== undefined)
      .sort((a, b) => Number(b.oneTime) - Number(a.oneTime) || a.expires - b.expires || (a.path < b.path ? -1 : 1))
  }

  #credentialPath(text: string): string {
    return join(this.directory, 'credentials', `${hash('sha256', text, 'hex').slice(0, 32)}.json`)
  }

  #keyPath(did: string): string {
    return join(this.directory, 'credential-keys', `${didToSegment(did)}.json`)
  }
}

/** `undefined` when it is another identity's. */
async function readHeld(path: string, value: unknown, identity: string, own: KeyPair): Promise<Held | undefined> {
  const { version, identity: owner, credential: text, seed } = fieldsOf(value)
  if (version !== 1 || typeof owner !== 'string' || typeof text !== 'string' || (seed !== undefined && typeof seed !== 'string')) {
    throw unusable(path, 'it does not hold a credential')
  }
  if (owner !== identity) return undefined
  const { holder, ...credential } = await openCredential(text)
  const key = seed === undefined ? own : keyOf(path, seed)
  if (key.did !== holder.did) throw unusable(path, 'its key is not the one it is bound to')
  return { ...credential, oneTime: seed !== undefined, path, text, key }
}

function shown({ vct, issuer, issued, expires, attributes }: Omit<Credential, 'holder'>, oneTime: boolean): HeldCredential {
  return { vct, issuer, issued, expires, attributes, oneTime }
}

interface Step {
  readonly credential: Held
  /** What it is to show of what was asked for. */
  readonly ids: readonly string[]
}

/** Which credentials show all of that, each time the one that shows most of what is left, the first of several; `undefined`: none do. */
function planOf(held: readonly Held[], wanted: ReadonlySet<string>): [Step, ...Step[]] | undefined {
  const left = new Set(wanted)
  const steps: Step[] = []
  while (left.size > 0) {
    let best: Step | undefined
    for (const credential of held) {
      const ids = [...left].filter(id => shows(credential, id))
      if (ids.length > (best?.ids.length ?? 0)) best = { credential, ids }
    }
    if (best === undefined) return undefined
    steps.push(best)
    for (const id of best.ids) left.delete(id)
  }
  const [first, ...rest] = steps
  return first === undefined ? undefined : [first, ...rest]
}

function shows({ attributes, issuer }: Held, wanted: string): boolean {
  const at = wanted.indexOf('@')
  return (at === -1 || wanted.slice(at + 1) === issuer) && attributes.some(({ id }) => id === idOf(wanted))
}

/** Neither a type nor a claim has an `@`. */
function idOf(wanted: string): string {
  const at = wanted.indexOf('@')
  return at === -1 ? wanted : wanted.slice(0, at)
}

function notHeld(identity: string, attribute: string): Error {
  return usage(`The identity ${identity} holds no valid credential with ${attribute}; \`cmesh attribute list\` shows those it has.`)
}
