/**
 * Names, as their owner handles them: it puts a name in normal form, signs the record and sends it. Who owns what is the
 * Registrar's to say; a record that comes back is taken as it is.
 */
import { CMeshError } from '../cmtp/errors.ts'
import { isSegment, parseFqmn } from '../cmtp/fqmn.ts'
import { decodeDid, didToSegment } from '../cmtp/identity/did.ts'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import { signNameRecord, type SignableNameRecord } from '../cmtp/identity/name-record.ts'
import { normaliseName } from '../cmtp/name.ts'
import type { VerbCall, VerbOptions } from './verbs.ts'

/** What the mesh keeps of a name. */
export interface NameRecord extends SignableNameRecord {
  readonly registeredAtMs: number
  readonly expiresAtMs: number
  /** base64url: the owner's over {name, target, owner, sequence}; after a transfer the former owner's. */
  readonly signature: string
  /** Which DID owns it today, where one took the place of `owner`. */
  readonly holder?: string
}

export class Names {
  readonly #call: VerbCall
  readonly #identity: KeyPair

  constructor(call: VerbCall, identity: KeyPair) {
    this.#call = call
    this.#identity = identity
  }

  async register(name: string, target: string, options: VerbOptions): Promise<NameRecord> {
    checkTarget(target)
    const record = { name: normaliseName(name), target, owner: this.#identity.did, sequence: 1 }
    return await this.#sign(`0xRW:register:${record.name}:${target}`, record, options)
  }

  async resolve(name: string, options: VerbOptions): Promise<NameRecord> {
    // The name goes out as it was typed, where an address can have it: whether it is one is for the Registrar to say, with its own reason.
    return (await this.#call(`0xR:resolve:${isSegment(name) ? name : normaliseName(name)}`, options)).json()
  }

  /** With all that this client itself did: it signs the record that follows. */
  async #newest(name: string, options: VerbOptions): Promise<NameRecord> {
    return (await this.#call(`0xR:resolve:${normaliseName(name)}`, { ...options, read: 'session' })).json()
  }

  async update(name: string, target: string, options: VerbOptions): Promise<NameRecord> {
    checkTarget(target)
    const { sequence, name: normal } = await this.#newest(name, options)
    // The record's owner may be a DID of before, whose place this one took.
    const owner = this.#identity.did
    return await this.#sign(`0xRW:update:${normal}:${target}`, { name: normal, target, owner, sequence: sequence + 1 }, options)
  }

  async transfer(name: string, owner: string, options: VerbOptions): Promise<NameRecord> {
    decodeDid(owner)
    const { sequence, target, name: normal } = await this.#newest(name, options)
    return await this.#sign(`0xRW:transfer:${normal}:${didToSegment(owner)}`, { name: normal, target, owner, sequence: sequence + 1 }, options)
  }

  async renew(name: string, options: VerbOptions): Promise<NameRecord> {
    return (await this.#call(`0xRW:renew:${normaliseName(name)}`, options)).json()
  }

  async release(name: string, options: VerbOptions): Promise<void> {
    await this.#call(`0xRW:release:${normaliseName(name)}`, options)
  }

  async #sign(fqmn: string, record: SignableNameRecord, options: VerbOptions): Promise<NameRecord> {
    const body = JSON.stringify({ signature: signNameRecord(record, this.#identity), sequence: record.sequence })
    return (await this.#call(fqmn, { ...options, body })).json()
  }
}

/** Throws for what is no address by itself: behind the name it would be wrong at a byte of an address that nobody has typed. */
function checkTarget(target: string): void {
  if (parseFqmn(target).inner !== undefined) throw new CMeshError('CMESH_REGISTRAR_TARGET', { fqmn: target, reason: 'it nests another address' })
}
