/**
 * What must stand in no log: secrets by their shape, whoever made them, and those that a test made or a node keeps in its files,
 * by every spelling. The rooms of nodes look for them in all that their nodes and brokers wrote, in every suite.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { wordlist } from '@scure/bip39/wordlists/english.js'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { GUEST_KEY_SEED } from '../../cmtp/identity/nats-jwt.ts'

const WORDS: ReadonlySet<string> = new Set(wordlist)
/** Words of a root in a row: fewer may be English. */
const WORDS_IN_A_ROW = 12
const SHAPES: Readonly<Record<string, RegExp>> = {
  'the seed of an nkey': /\bS[OAU][A-Z2-7]{56}\b/g,
  'a JWT': /\beyJ[\w-]+\.eyJ[\w-]+\.[\w-]{20,}/g,
  'a private key': /-----BEGIN [A-Z ]*PRIVATE KEY-----/g,
}

/** Made in this process, by what they are. */
const made = new Map<string, string>()

/** A secret as text; returns what forgets it again. */
export function keepSecret(what: string, text: string): () => void {
  made.set(text, what)
  return () => { made.delete(text) }
}

/** A secret of bytes, in every spelling that it may turn up in. */
export function keepSecretBytes(what: string, bytes: Uint8Array): void {
  for (const text of spellings(bytes)) keepSecret(what, text)
}

/** What was found in a text, without the secrets themselves: a report of them is a log as well. */
export function secretsIn(text: string, more: ReadonlyMap<string, string> = new Map()): string[] {
  const found = Object.entries(SHAPES).flatMap(([what, shape]) =>
    Array.from(text.matchAll(shape)).filter(([match]) => match !== GUEST_KEY_SEED).map(match => `${what} at ${match.index}`))
  for (const kept of [made, more]) for (const [secret, what] of kept) if (text.includes(secret)) found.push(`${what} at ${text.indexOf(secret)}`)
  let row = 0
  for (const { 0: word, index } of text.matchAll(/\S+/g)) {
    row = WORDS.has(word.replaceAll(/^["'(]+|["'),.]+$/g, '')) ? row + 1 : 0
    if (row === WORDS_IN_A_ROW) found.push(`words of a root until ${index}`)
  }
  // The base64url of most keys is a part of their base64.
  return [...new Set(found)]
}

/** The secrets that a node keeps in its data directory, by what they are. */
export function secretsOf(dir: string): Map<string, string> {
  const kept = new Map<string, string>()
  const keep = (what: string, bytes: Uint8Array): void => { for (const text of spellings(bytes)) kept.set(text, what) }
  const key = read(path.join(dir, 'node.key'))?.trim()
  if (key !== undefined) keep('the node\'s key', Buffer.from(key, 'base64url'))
  for (const [, seed = ''] of read(path.join(dir, 'iam', 'keys.json'))?.matchAll(/"seed":"([\w-]+)"/g) ?? []) keep('a key that signs tokens', Buffer.from(seed, 'base64url'))
  return kept
}

/** What a node's own broker wrote, those of its logs included that were put aside. */
export function brokerLog(dir: string): string {
  const at = path.join(dir, 'broker')
  if (!existsSync(at)) return ''
  return readdirSync(at).filter(name => name.includes('.log')).map(name => read(path.join(at, name)) ?? '').join('\n')
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
