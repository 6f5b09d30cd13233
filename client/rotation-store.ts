/**
 * What the person at this machine keeps to rotate identities, under the user's config directory:
 *
 *     next/<name>.json                        what an identity has committed to, with the next root unless that was carried away
 *     rotations/<name>.json                   a rotation under way: the identity that is to take the place, whole
 *     retired/<name>.<generation>.<end of its DID>.json   identities that were rotated, as they lay in their files
 *
 * A next root is 24 words like any other, made apart from the root of today: who has the one learns nothing of the other. Each context of it is
 * what the same context of today's root commits to, so one next root does for a root and all that is derived of it. What a mesh says was committed to
 * is never kept: the next mesh would be told of it. Nothing here talks to a mesh; each step can be done again after a kill at any point of it.
 */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import { DEFAULT_CONTEXT, makeRoot, rootOfWords, wordsOfRoot } from '../cmtp/identity/root.ts'
import { commitmentTo } from '../cmtp/identity/rotation.ts'
import { derivedFile, didOfRoot, identityPath, readIdentityFile, rootFile, type IdentityFile } from './identity-file.ts'
import { usage } from './options.ts'
import { fieldsOf, PrivateFiles, unusable } from './private-files.ts'
import { readNext, readPending, rootIn, type NextFile, type PendingRotation } from './rotation-files.ts'

export type { PendingRotation } from './rotation-files.ts'

export interface RotationState {
  readonly did: string
  readonly generation: number
  /** `here`: its words are on this machine; `away`: only what it committed to is known; `none`: it has committed to nothing from here. */
  readonly next: 'here' | 'away' | 'none'
  readonly commitment: string | undefined
  /** DID that is about to take its place. */
  readonly pending: string | undefined
}

export interface Planning { readonly words?: string | undefined, readonly held?: string | undefined }

export class RotationStore {
  readonly directory: string
  readonly #files: PrivateFiles

  /**
   * Nothing is read or made before it is asked for. Every method rejects with `CMESH_CLIENT_CREDENTIALS` and `CMESH_CLIENT_USAGE` as
   * `IdentityStore` does.
   */
  constructor(directory: string) {
    this.directory = directory
    this.#files = new PrivateFiles(directory)
  }

  async state(name: string): Promise<RotationState> {
    const { file } = await this.#identity(name)
    const [next, pending] = [await this.#next(name, file.did), await this.pending(name)]
    const here = next !== undefined && await this.#rootFor(next.commitment, contextOf(file)) !== undefined
    return {
      did: file.did, generation: file.generation ?? 0, next: next === undefined ? 'none' : here ? 'here' : 'away',
      commitment: next?.commitment, pending: pending?.file.did,
    }
  }

  /** What the identity commits to. A next root is made where there is none; of two processes that make one at once both get the same. */
  async commitment(name: string): Promise<string> {
    const { file } = await this.#identity(name)
    const standing = await this.#next(name, file.did)
    if (standing !== undefined) return standing.commitment
    const [made, path] = [await this.#nextOf(file), this.#path('next', name)]
    // What lies there now, if anything, is of another DID that had the name.
    await this.#files.write(path, made, await this.#files.read(path) === undefined ? 'create' : 'replace')
    return (await this.#next(name, file.did) ?? made).commitment
  }

  /**
   * Why the identity is not to commit by itself: it is what the one of the name `awaitedBy` has committed to, or it was `imported` and may be what
   * one elsewhere has. What has committed takes no place any more. A file of an identity of before awaits nothing.
   */
  async heldBack(name: string): Promise<{ readonly awaitedBy?: string, readonly imported: boolean }> {
    const { file } = await this.#identity(name)
    const imported = file.imported === true && file.from === undefined
    for (const other of await this.#names('next')) {
      const next = readNext(this.#path('next', other), await this.#files.read(this.#path('next', other)))
      if (next.commitment !== commitmentTo(file.did)) continue
      if (fieldsOf(await this.#files.read(this.#path('identities', other)))['did'] === next.of) return { awaitedBy: other, imported }
    }
    return { imported }
  }

  /** Keeps whose place the identity takes, or `undefined` again, and resolves with what was kept of it before. */
  async takes(name: string, from: string | undefined): Promise<string | undefined> {
    const { file: { from: before, ...file } } = await this.#identity(name)
    await this.#files.write(identityPath(this.directory, name), { ...file, ...(from !== undefined && { from }) }, 'replace')
    return before
  }

  /** Writes the words of the next root to a new file of mode 0600, and forgets them here. */
  async carryAway(name: string, path: string): Promise<void> {
    await this.commitment(name)
    const { file: { did } } = await this.#identity(name)
    const { entropy, ...next } = await this.#next(name, did) as NextFile
    if (entropy === undefined) throw usage(`The next root of ${name} is not kept here under its name: it was carried away, or is its root's.`)
    const words = await wordsOfRoot(Buffer.from(entropy, 'base64url'))
    const out = await open(path, 'wx', 0o600).catch((cause: unknown) => { throw usage(`${path} cannot be made: it must be a new file. ${String(cause)}`) })
    try {
      await out.writeFile(`${words}\n`)
      await out.sync()
    } finally {
      await out.close()
    }
    await this.#files.write(this.#path('next', name), next, 'replace')
  }

  async pending(name: string): Promise<PendingRotation | undefined> {
    const path = this.#path('rotations', name)
    const value = await this.#files.read(path)
    return value === undefined ? undefined : readPending(path, value)
  }

  /**
   * The identity that is to take the place of `name`. `words`: of its next root, where they are not here. `held`: what the mesh holds, which is
   * compared and never followed: what takes the place is what was made here, or what its owner gives the words of. Keeps nothing.
   */
  async plan(name: string, { words, held }: Planning = {}): Promise<PendingRotation> {
    const { file } = await this.#identity(name)
    const [own, context] = [await this.#next(name, file.did), contextOf(file)]
    const given = words === undefined ? undefined : await rootOfWords(words)
    const known = [own?.commitment, held].filter(each => each !== undefined)
    if (given === undefined && known.length === 0) throw usage(`The identity ${name} has committed to no other: \`cmesh login --identity ${name}\` does.`)
    const entropy = given ?? (own === undefined ? undefined : await this.#rootFor(own.commitment, context))
    if (entropy === undefined) throw usage(`The next root of ${name} is not on this machine: give its words by --next-words.`)
    const commitment = commitmentTo(await didOfRoot(entropy, context))
    if (known.length > 0 && !known.includes(commitment)) throw usage(`These are not the words of the next root of ${name}.`)
    if (held !== undefined && held !== commitment) {
      throw usage(`This mesh says that ${name} has committed to another next root: give the words of that one by --next-words, where you made it elsewhere.`)
    }
    if (own?.entropy !== undefined && own.commitment !== commitment) {
      throw usage(`Another next root of ${name} lies here, which other meshes may know: carry it away first, \`cmesh identity next ${name} --out FILE\`.`)
    }
    // What has a root of its own from now on is a root. A derived identity stays one.
    const derived = file.root !== undefined && own?.entropy === undefined
    const made = await (derived ? derivedFile(entropy, context, await didOfRoot(entropy, DEFAULT_CONTEXT)) : rootFile(entropy, context))
    const next = { ...made, generation: (file.generation ?? 0) + 1 }
    return { version: 1, old: file.did, file: next, next: await this.#nextOf(next) }
  }

  /** Keeps a plan, before anybody hears of it; the one that was kept before where there is one. */
  async begin(name: string, plan: PendingRotation): Promise<PendingRotation> {
    if (await this.#files.write(this.#path('rotations', name), plan, 'create')) return plan
    return await this.pending(name) ?? await this.begin(name, plan)
  }

  /** Puts the new identity in the place of the old one, which is kept aside. To be called once the mesh has done so. */
  async finish(name: string): Promise<void> {
    const pending = await this.pending(name)
    if (pending === undefined) return
    const { file } = await this.#identity(name)
    if (file.did !== pending.old && file.did !== pending.file.did) throw unusable(this.#path('rotations', name), 'it is a rotation of another identity')
    if (file.did === pending.old) {
      const aside = join(this.directory, 'retired', `${name}.${file.generation ?? 0}.${file.did.slice(-8)}.json`)
      await this.#files.write(aside, file, 'create')
      await this.#files.write(identityPath(this.directory, name), pending.file, 'replace')
    }
    await this.#files.write(this.#path('next', name), pending.next, 'replace')
    await this.#files.remove(this.#path('rotations', name))
  }

  /** Forgets a rotation that the mesh refused. */
  abandon(name: string): Promise<void> {
    return this.#files.remove(this.#path('rotations', name))
  }

  /** The keys that an identity had, the first one first, the one of today last. */
  async keys(name: string): Promise<readonly KeyPair[]> {
    return (await this.#line(name)).map(({ key }) => key)
  }

  /** Which key of the identity took the place of which DID, the first one first. */
  async steps(name: string): Promise<readonly { readonly old: string, readonly to: KeyPair }[]> {
    const line = await this.#line(name)
    return line.flatMap(({ file: { from }, key: to }, i) => {
      const before = line[i - 1]?.key.did
      return [from, before].filter(old => old !== undefined).map(old => ({ old, to }))
    })
  }

  async #line(name: string): Promise<readonly { readonly file: IdentityFile, readonly key: KeyPair }[]> {
    const today = await this.#identity(name)
    const directory = join(this.directory, 'retired')
    const generationOf = (file: string): number => Number(file.split('.')[1])
    const names = (await this.#files.names(directory)).filter(file => file.startsWith(`${name}.`) && file.endsWith('.json'))
    const paths = names.sort((a, b) => generationOf(a) - generationOf(b)).map(file => join(directory, file))
    return [...await Promise.all(paths.map(async path => readIdentityFile(path, await this.#files.read(path)))), today]
  }

  /** What an identity commits to: the same context of its root's next root, where that is here, else of a new one of its own. */
  async #nextOf(file: IdentityFile): Promise<NextFile> {
    const context = contextOf(file)
    const shared = file.root === undefined ? undefined : await this.#nextRootOf(file.root)
    const entropy = shared ?? makeRoot()
    const commitment = commitmentTo(await didOfRoot(entropy, context))
    return { version: 1, of: file.did, commitment, ...(shared === undefined && { entropy: entropy.toString('base64url') }) }
  }

  /** The next root of the root with that DID, where both are here; made when there is none yet. */
  async #nextRootOf(did: string): Promise<Buffer | undefined> {
    for (const name of await this.#names('identities')) {
      const { file } = await this.#identity(name)
      if (file.did !== did || file.entropy === undefined) continue
      await this.commitment(name)
      return rootIn((await this.#next(name, did))?.entropy)
    }
    return undefined
  }

  /** The root whose context gives the DID that was committed to, of all there are here. */
  async #rootFor(commitment: string, context: string): Promise<Buffer | undefined> {
    const values = await Promise.all((['next', 'identities'] as const).map(async directory => (
      await Promise.all((await this.#names(directory)).map(name => this.#files.read(this.#path(directory, name))))
    )))
    for (const value of values.flat()) {
      const { entropy } = fieldsOf(value)
      const root = rootIn(entropy)
      if (root !== undefined && commitmentTo(await didOfRoot(root, context)) === commitment) return root
    }
    return undefined
  }

  async #identity(name: string): Promise<{ readonly file: IdentityFile, readonly key: KeyPair }> {
    const path = identityPath(this.directory, name)
    const value = await this.#files.read(path)
    if (value === undefined) throw usage(`There is no identity ${name}; \`cmesh identity new ${name}\` makes it.`)
    return readIdentityFile(path, value)
  }

  /** What is kept of a DID's next; `undefined` for what an identity of before left under the name. */
  async #next(name: string, did: string): Promise<NextFile | undefined> {
    const path = this.#path('next', name)
    const value = await this.#files.read(path)
    const next = value === undefined ? undefined : readNext(path, value)
    return next?.of === did ? next : undefined
  }

  async #names(directory: 'next' | 'identities'): Promise<readonly string[]> {
    const files = await this.#files.names(join(this.directory, directory))
    return files.filter(file => /^[^.]+\.json$/.test(file)).map(file => file.slice(0, -'.json'.length)).sort()
  }

  #path(directory: 'next' | 'rotations' | 'identities', name: string): string {
    identityPath(this.directory, name)
    return join(this.directory, directory, `${name}.json`)
  }
}

const contextOf = ({ context = DEFAULT_CONTEXT }: IdentityFile): string => context
