import { inspect } from 'node:util'
import { describe, expect, test } from '@jest/globals'
import { createAccount, createOperator, createUser, fromPublic, fromSeed } from '@nats-io/nkeys'
import fc from 'fast-check'
import type { CMeshError } from '../../cmtp/errors.ts'
import { Nkey, nkeyText, readNkey, type NkeyRole } from '../../cmtp/identity/nats-keys.ts'

const ROLES: readonly NkeyRole[] = ['operator', 'account', 'user']
const letters = { operator: 'O', account: 'A', user: 'U' }
const theirs = { operator: createOperator, account: createAccount, user: createUser }
const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
const refusal = (reason: string): unknown => expect.objectContaining({ code: 'CMESH_IAM_KEY', message: `The key is refused: ${reason}.` })

describe.each(ROLES)('an nkey of the role %s', role => {
  test('is written, read and signed with as NATS does', () => {
    const ours = Nkey.generate(role)
    expect(ours.text[0]).toBe(letters[role])
    const same = fromSeed(new TextEncoder().encode(ours.exportSeed()))
    expect(same.getPublicKey()).toBe(ours.text)
    const message = Buffer.from('a nonce')
    expect(Buffer.from(same.sign(message))).toEqual(ours.sign(message))
    expect(fromPublic(ours.text).verify(message, ours.sign(message))).toBe(true)
    const foreign = theirs[role]()
    const read = Nkey.fromSeed(decode(foreign.getSeed()))
    expect([read.role, read.text, read.exportSeed()]).toEqual([role, foreign.getPublicKey(), decode(foreign.getSeed())])
  })

  test('names its public key, in its own role alone', () => {
    const { text, publicKey } = Nkey.generate(role)
    expect(readNkey(role, text).text).toBe(publicKey.text)
    expect(nkeyText(role, publicKey.toBytes())).toBe(text)
    for (const other of ROLES.filter(one => one !== role)) {
      expect(() => readNkey(other, text)).toThrow(refusal(`it is not the nkey of ${other === 'user' ? 'a' : 'an'} ${other}`))
    }
  })

  test('shows its seed to nobody who does not ask for it', () => {
    const nkey = Nkey.generate(role)
    expect(`${inspect(nkey, { depth: 9, showHidden: true })} ${JSON.stringify(nkey)}`).not.toContain(nkey.exportSeed().slice(2, 50))
  })
})

describe('a text that is no nkey', () => {
  const { text } = Nkey.generate('user')
  const other = (character: string): string => (character === 'B' ? 'C' : 'B')

  test.each([
    ['too short', text.slice(0, -1), 'an nkey has 56 characters'],
    ['too long', `${text}A`, 'an nkey has 56 characters'],
    ['empty', '', 'an nkey has 56 characters'],
    ['in small letters', text.toLowerCase(), 'it is not base32'],
    ['with a wrong character', `${text.slice(0, 9)}${other(text.charAt(9))}${text.slice(10)}`, 'its check sum is wrong'],
    ['of small order', nkeyText('user', new Uint8Array(32)), 'it is a point of small order'],
  ])('because it is %s is refused', (_, wrong, reason) => {
    expect(() => readNkey('user', wrong)).toThrow(refusal(reason))
  })

  test('whatever it is has that one error, which quotes nothing of it', () => {
    const seed = Nkey.generate('user').exportSeed()
    fc.assert(fc.property(fc.oneof(fc.string(), fc.string({ minLength: 56, maxLength: 58 }), fc.constantFrom(`${seed.slice(0, -1)}1`, seed.toLowerCase())), wrong => {
      for (const read of [() => readNkey('user', wrong), () => Nkey.fromSeed(wrong)]) {
        const error = caught(read)
        expect(error.code).toBe('CMESH_IAM_KEY')
        if (wrong.length > 40) expect(`${error.message} ${String(error.cause)}`).not.toContain(wrong.slice(0, 40))
      }
    }))
  })

  test('is not made of anything but 32 bytes', () => {
    expect(() => nkeyText('user', new Uint8Array(31))).toThrow(refusal('an nkey has 32 bytes, not 31'))
    expect(() => Nkey.fromBytes('user', new Uint8Array(33))).toThrow(refusal('a seed has 32 bytes, not 33'))
  })
})

function caught(work: () => unknown): CMeshError {
  try {
    work()
  } catch (error) {
    return error as CMeshError
  }
  throw new Error('nothing was thrown')
}
