/**
 * What must stand in no log and in no answer: secrets by their shape, whoever made them, and those that a test made or a node or a
 * person keeps in their files, by every spelling. Rooms of nodes, homes of the command line, brokers and bare sockets look for them in
 * all that was written or came, when they are closed. Whoever loads this file has every key that `KeyPair.generate` makes looked for.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { wordlist } from '@scure/bip39/wordlists/english.js'
import { ReplyFrame } from '../../cmtp/frame.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { GUEST_KEY_SEED } from '../../cmtp/identity/nats-jwt.ts'

const WORDS: ReadonlySet<string> = new Set(wordlist)
/** Words of a root in a row: fewer may be English. */
const WORDS_IN_A_ROW = 12
/** By so many characters a secret is looked up: thousands of them are found in one pass. */
const INDEXED = 12
const SHAPES: Readonly<Record<string, RegExp>> = {
  'the seed of an nkey': /\bS[OAU][A-Z2-7]{56}\b/g,
  'a JWT': /\beyJ[\w-]+\.eyJ[\w-]+\.[\w-]{20,}/g,
  'a private key': /-----BEGIN [A-Z ]*PRIVATE KEY-----/g,
}

/** Secrets and what they are, by their first characters. */
type Index = Map<string, Map<string, string>>

/** Made in this process. */
const made: Index = new Map()

const generate = KeyPair.generate.bind(KeyPair)
KeyPair.generate = () => {
  const key = generate()
  keepSecretBytes('a key that was made here', key.exportSeed())
  return key
}

/** A secret as text; returns what forgets it again. */
export function keepSecret(what: string, text: string): () => void {
  if (text.length < INDEXED) throw new Error(`${what} is too short to be looked for`)
  enter(made, text, what)
  return () => { made.get(text.slice(0, INDEXED))?.delete(text) }
}

/** A secret of bytes, in every spelling that it may turn up in. */
export function keepSecretBytes(what: string, bytes: Uint8Array): void {
  for (const text of spellings(bytes)) keepSecret(what, text)
}

/** What was found in a text, without the secrets themselves: a report of them is a log as well. */
export function secretsIn(text: string, more: ReadonlyMap<string, string> = new Map()): string[] {
  const found = Object.entries(SHAPES).flatMap(([what, shape]) =>
    Array.from(text.matchAll(shape)).filter(([match]) => match !== GUEST_KEY_SEED).map(match => `${what} at ${match.index}`))
  const indices = [made, indexOf(more)].filter(({ size }) => size > 0)
  for (let at = 0; indices.length > 0 && at + INDEXED <= text.length; at++) {
    const start = text.slice(at, at + INDEXED)
    for (const index of indices) for (const [secret, what] of index.get(start) ?? []) if (text.startsWith(secret, at)) found.push(`${what} at ${at}`)
  }
  let row = 0
  for (const { 0: word, index } of text.matchAll(/\S+/g)) {
    row = WORDS.has(word.replaceAll(/^["'(]+|["'),.]+$/g, '')) ? row + 1 : 0
    if (row === WORDS_IN_A_ROW) found.push(`words of a root until ${index}`)
  }
  // The base64url of most keys is a part of their base64.
  return [...new Set(found)]
}

/** What was found in a message from a mesh. The session that a handshake or a renewal ends in is the one that carries a token. */
export function secretsInReply(data: Buffer): string[] {
  const found = secretsIn(data.toString('latin1'))
  return found.length === 0 || isSession(data) ? [] : found
}

function indexOf(secrets: ReadonlyMap<string, string>): Index {
  const index: Index = new Map()
  for (const [secret, what] of secrets) enter(index, secret, what)
  return index
}

function enter(index: Index, secret: string, what: string): void {
  const start = secret.slice(0, INDEXED)
  index.set(start, (index.get(start) ?? new Map<string, string>()).set(secret, what))
}

function isSession(data: Buffer): boolean {
  try {
    const { status, body } = ReplyFrame.decode(data)
    return status === 200 && (JSON.parse(body.toString('utf8')) as { step?: unknown }).step === 'session'
  } catch {
    return false
  }
}

/** The secrets that a node keeps in its data directory, by what they are. */
export function secretsOf(dir: string): Map<string, string> {
  const kept = new Map<string, string>()
  const keep = (what: string, bytes: Uint8Array): void => { for (const text of spellings(bytes)) kept.set(text, what) }
  const key = read(path.join(dir, 'node.key'))?.trim()
  if (key !== undefined) keep('the node\'s key', Buffer.from(key, 'base64url'))
  // Those of the cluster that it is a part of.
  const meshKey = read(path.join(dir, '..', 'mesh', 'mesh.key'))?.trim()
  if (meshKey !== undefined) keep('the mesh\'s key', Buffer.from(meshKey, 'base64url'))
  const password = /"password": "([\w-]+)"/.exec(read(path.join(dir, '..', 'cluster.json')) ?? '')?.[1]
  if (password !== undefined) kept.set(password, 'the password of the servers\' routes')
  for (const [, seed = ''] of read(path.join(dir, 'iam', 'keys.json'))?.matchAll(/"seed":"([\w-]+)"/g) ?? []) keep('a key that signs tokens', Buffer.from(seed, 'base64url'))
  return kept
}

/** The secrets in the files of the command line, under a config directory. */
export function secretsOfPerson(dir: string): Map<string, string> {
  const kept = new Map<string, string>()
  for (const file of filesUnder(dir, name => name.endsWith('.json'))) {
    for (const [, field = '', value = ''] of read(file)?.matchAll(/"(seed|entropy|key)":\s*"([\w-]{43})"/g) ?? []) {
      for (const text of spellings(Buffer.from(value, 'base64url'))) kept.set(text, `the ${field} in ${path.relative(dir, file)}`)
    }
  }
  return kept
}

/** Data directories of nodes, wherever they are under a directory. */
export function nodesUnder(dir: string): string[] {
  return filesUnder(dir, name => name === 'node.key').map(file => path.dirname(file))
}

function filesUnder(dir: string, wanted: (name: string) => boolean): string[] {
  if (!existsSync(dir)) return []
  const entries = readdirSync(dir, { recursive: true, withFileTypes: true })
  return entries.filter(each => each.isFile() && wanted(each.name)).map(each => path.join(each.parentPath, each.name))
}

/** What a node's own broker wrote, those of its logs included that were put aside. */
export function brokerLog(dir: string): string {
  const at = path.join(dir, 'broker')
  if (!existsSync(at)) return ''
  return readdirSync(at).filter(name => name.includes('.log')).map(name => read(path.join(at, name)) ?? '').join('\n')
}

/** What the processes of clusters wrote, by the names of their logs. */
export function clusterLogs(dir: string): Map<string, string> {
  return new Map(filesUnder(dir, name => name.includes('.log')).filter(file => file.includes(`${path.sep}cluster${path.sep}`)).map(file => [file, read(file) ?? '']))
}

function spellings(bytes: Uint8Array): string[] {
  const buffer = Buffer.from(bytes)
  return [
    ...(['hex', 'base64', 'base64url'] as const).map(encoding => buffer.toString(encoding)),
    ...(bytes.length === 32 ? (['user', 'account', 'operator'] as const).map(role => Nkey.fromBytes(role, bytes).exportSeed()) : []),
  ]
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
