/**
 * Keys as NATS spells them ("nkeys"): base32 of a role's byte, 32 bytes and a CRC-16, so that a key says what it is for and a
 * slip of the pen is noticed. Owns that spelling and the key pair behind it; what is signed is its caller's. An nkey is never
 * the key of a DID or of a session: a broker picks the nonces that it signs. An `Nkey` shows its seed to nobody but the caller
 * of `exportSeed`.
 */
import { randomBytes } from 'node:crypto'
import { base32nopad } from '@scure/base'
import { CMeshError } from '../errors.ts'
import { PUBLIC_KEY_BYTES } from './did.ts'
import { KeyPair, PublicKey, SEED_BYTES } from './keys.ts'

export type NkeyRole = 'operator' | 'account' | 'user'

/** First byte of a public key, by role (`O…`, `A…`, `U…`). */
const ROLE_BYTE: Readonly<Record<NkeyRole, number>> = Object.freeze({ operator: 14 << 3, account: 0, user: 20 << 3 })
/** A seed (`S…`) begins with five bits of this, then all eight of its role's byte. */
const SEED_BYTE = 18 << 3
const CRC_BYTES = 2
/** Base32 of 1 + 32 + 2 bytes, and of one more for a seed. */
const NKEY_CHARACTERS = 56
const SEED_CHARACTERS = 58

/** A private nkey and its public text. */
export class Nkey {
  readonly role: NkeyRole
  readonly publicKey: PublicKey
  /** The public key as NATS writes it. */
  readonly text: string
  readonly #pair: KeyPair

  private constructor(role: NkeyRole, seed: Uint8Array) {
    this.role = role
    this.#pair = KeyPair.fromSeed(seed)
    this.publicKey = this.#pair.publicKey
    this.text = nkeyText(role, this.publicKey.toBytes())
  }

  static generate(role: NkeyRole): Nkey {
    return new Nkey(role, randomBytes(SEED_BYTES))
  }

  /** The nkey whose `exportSeed` this text is. Any text: throws `CMESH_IAM_KEY`, which never quotes it. */
  static fromSeed(text: string): Nkey {
    const bytes = payloadOf(text, SEED_CHARACTERS, 'the seed of an nkey')
    const [first, second] = bytes as unknown as readonly [number, number]
    const role = (Object.keys(ROLE_BYTE) as NkeyRole[]).find(one => first === seedHead(one)[0] && second === seedHead(one)[1])
    if (role === undefined) throw refused('it is no seed of an operator, account or user')
    return new Nkey(role, bytes.subarray(2))
  }

  /** The nkey of a 32-byte seed (RFC 8032, 5.1.5). Throws `CMESH_IAM_KEY` for another length. */
  static fromBytes(role: NkeyRole, seed: Uint8Array): Nkey {
    return new Nkey(role, seed)
  }

  /** 64 bytes, deterministic. */
  sign(message: Uint8Array): Buffer {
    return this.#pair.sign(message)
  }

  /** The secret itself (`SO…`, `SA…`, `SU…`), for a store that keeps it. */
  exportSeed(): string {
    return checked(Buffer.concat([seedHead(this.role), this.#pair.exportSeed()]))
  }
}

/** The text of 32 bytes in a role. An account may be named by bytes that are nobody's public key. */
export function nkeyText(role: NkeyRole, raw: Uint8Array): string {
  if (raw.length !== PUBLIC_KEY_BYTES) throw refused(`an nkey has ${PUBLIC_KEY_BYTES} bytes, not ${raw.length}`)
  return checked(Buffer.concat([Uint8Array.of(ROLE_BYTE[role]), raw]))
}

/** The public key that a text names in a role, in its one spelling. Any text: throws `CMESH_IAM_KEY`. */
export function readNkey(role: NkeyRole, text: string): PublicKey {
  const bytes = payloadOf(text, NKEY_CHARACTERS, 'an nkey')
  if (bytes[0] !== ROLE_BYTE[role]) throw refused(`it is not the nkey of ${role === 'user' ? 'a' : 'an'} ${role}`)
  return PublicKey.fromBytes(bytes.subarray(1))
}

function seedHead(role: NkeyRole): Buffer {
  const byte = ROLE_BYTE[role]
  return Buffer.of(SEED_BYTE | (byte >> 5), (byte & 31) << 3)
}

function checked(bytes: Buffer): string {
  const crc = Buffer.alloc(CRC_BYTES)
  crc.writeUInt16LE(crc16(bytes))
  return base32nopad.encode(Buffer.concat([bytes, crc]))
}

/** What stands in front of a good check sum. */
function payloadOf(text: string, characters: number, what: string): Buffer {
  if (text.length !== characters) throw refused(`${what} has ${characters} characters`)
  let bytes: Buffer
  try {
    bytes = Buffer.from(base32nopad.decode(text))
  } catch {
    // Without its cause: the decoder's own words quote what it was given, which may be a secret.
    throw refused('it is not base32')
  }
  const payload = bytes.subarray(0, -CRC_BYTES)
  if (bytes.readUInt16LE(payload.length) !== crc16(payload)) throw refused('its check sum is wrong')
  return payload
}

/** CRC-16/XMODEM. */
function crc16(bytes: Uint8Array): number {
  let crc = 0
  for (const byte of bytes) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000) === 0 ? (crc << 1) & 0xffff : ((crc << 1) ^ 0x1021) & 0xffff
  }
  return crc
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_KEY', { reason })
}
