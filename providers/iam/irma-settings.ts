/**
 * What the `irma` provider is configured with, read and checked once: the server's address, the keys of both sides and what is
 * to be disclosed. Nothing of it ever comes from a server or a client.
 */
import { createPrivateKey, createPublicKey, createSecretKey, type KeyObject } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { parseCondiscon, type Condiscon } from './condiscon.ts'

export interface IrmaSettings {
  readonly url?: string | undefined
  readonly requestor?: string | undefined
  readonly key?: string | undefined
  readonly serverKey?: string | undefined
  readonly disclose?: string | undefined
  /** Default 120,000. */
  readonly timeoutMs?: number
}

export interface RequestorKey {
  readonly algorithm: 'HS256' | 'RS256'
  readonly key: KeyObject
}

export interface IrmaOptions {
  readonly url: URL
  /** The name that the server knows this mesh by. */
  readonly requestor: string
  readonly key: RequestorKey
  /** RSA, public. */
  readonly serverKey: KeyObject
  readonly disclose: Condiscon
  /** How long a person may take, in ms. */
  readonly timeoutMs: number
}

/** Least size of an RSA modulus in bits (RFC 7518, 3.3), and of an HS256 secret in bytes (RFC 7518, 3.2). */
const RSA_BITS = 2_048
const SECRET_BYTES = 32
const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/

/** Each setting's own check; each throws `CMESH_CONFIG_INVALID`. */
export const IRMA_CHECKS = {
  url: parseIrmaUrl, requestor: parseRequestor, key: parseRequestorKey, serverKey: parseServerKey, disclose: parseCondiscon,
} as const satisfies Record<Exclude<keyof IrmaSettings, 'timeoutMs'>, (text: string) => unknown>

/** Throws `CMESH_CONFIG_INVALID` naming the first setting that is missing or not valid. */
export function readIrmaSettings({ url, requestor, key, serverKey, disclose, timeoutMs = 120_000 }: IrmaSettings): IrmaOptions {
  return {
    url: given('url', url, IRMA_CHECKS.url),
    requestor: given('requestor', requestor, IRMA_CHECKS.requestor),
    key: given('key', key, IRMA_CHECKS.key),
    serverKey: given('serverKey', serverKey, IRMA_CHECKS.serverKey),
    disclose: given('disclose', disclose, IRMA_CHECKS.disclose),
    timeoutMs,
  }
}

function given<T>(name: string, text: string | undefined, parse: (text: string) => T): T {
  const key = `iam.irma.${name}`
  if (text === undefined || text === '') throw new CMeshError('CMESH_CONFIG_INVALID', { key, reason: 'the identity provider irma needs it' })
  try {
    return parse(text)
  } catch (cause) {
    if (!(cause instanceof CMeshError)) throw cause
    throw new CMeshError('CMESH_CONFIG_INVALID', { key, reason: String(cause.detail['reason']) }, { cause })
  }
}

/** `https`, or `http` to this machine. Throws `CMESH_CONFIG_INVALID`, as all that read a setting here do. */
function parseIrmaUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined) throw invalid('url', 'it is no URL')
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && LOOPBACK.test(url.hostname))) throw invalid('url', 'it must be https, or http to this machine')
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw invalid('url', 'it has nothing but a host, a port and a path')
  }
  return url
}

function parseRequestor(text: string): string {
  if (!/^[\w.@-]{1,64}$/.test(text)) throw invalid('requestor', 'it is 1 to 64 letters, digits, dots, underscores, @ and hyphens')
  return text
}

/** An RSA private key in PEM signs RS256; anything else is a secret in base64 and signs HS256. */
function parseRequestorKey(text: string): RequestorKey {
  if (text.includes('-----BEGIN')) return { algorithm: 'RS256', key: rsa('key', () => createPrivateKey(pem(text))) }
  const secret = /^[A-Za-z0-9+/_-]+={0,2}$/.test(text.trim()) ? Buffer.from(text, 'base64') : Buffer.alloc(0)
  if (secret.length < SECRET_BYTES) throw invalid('key', `it is neither an RSA key in PEM nor base64 of at least ${SECRET_BYTES} bytes`)
  return { algorithm: 'HS256', key: createSecretKey(secret) }
}

function parseServerKey(text: string): KeyObject {
  // The public half could be had from a private key too, but a private key that is not ours has no place in our settings.
  if (/PRIVATE/.test(text)) throw invalid('serverKey', 'it is a private key, and the server alone should have that')
  return rsa('serverKey', () => createPublicKey(pem(text)))
}

/** Where line feeds are hard to write, such as in an environment file, `\n` stands for one. */
function pem(text: string): string {
  return text.replaceAll('\\n', '\n')
}

/** What OpenSSL says of a key that it cannot read is not passed on: it is about a secret. */
function rsa(name: string, read: () => KeyObject): KeyObject {
  let key: KeyObject | undefined
  try {
    key = read()
  } catch {
    key = undefined
  }
  if (key?.asymmetricKeyType !== 'rsa' || (key.asymmetricKeyDetails?.modulusLength ?? 0) < RSA_BITS) {
    throw invalid(name, `it is no RSA key of at least ${RSA_BITS} bits in PEM`)
  }
  return key
}

function invalid(name: string, reason: string): CMeshError {
  return new CMeshError('CMESH_CONFIG_INVALID', { key: `iam.irma.${name}`, reason })
}
