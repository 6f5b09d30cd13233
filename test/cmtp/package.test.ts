import { createHash } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { isContractAddress } from '../../cmtp/fqmn.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import {
  codeHash, contractAddress, decodePackage, encodePackage, packageManifest, packageSigningBytes, proxyAddress, signPackage, signProxy, splitSigned,
  verifyPackage, verifyProxy, type ContractManifest, type ContractPackage, type ContractStrategy, type PackagePurpose, type ProxyRequest,
} from '../../cmtp/package.ts'
import { damaged, decodeTotally, everyBitFlip, everyTruncation } from '../support/damage.ts'
import { anyBytes, anyMessageId } from '../support/messages.ts'
import { refusal } from '../support/refusal.ts'
import { bytesOf, readVectors, type AcceptedVector, type CodecVectors } from '../support/vectors.ts'

interface PackageMeaning {
  readonly salt: string
  readonly strategy: ContractStrategy
  readonly manifest: ContractManifest
  readonly init: string
  readonly module: string
}
interface PackageVector extends AcceptedVector<PackageMeaning> {
  readonly deployer: string
  readonly address: string
  readonly codeHash: string
  readonly deploySignature: string
  readonly replaceSignature: string
}
const VECTORS = readVectors<CodecVectors<PackageMeaning> & { readonly proxy: ProxyRequest & { readonly deployer: string, readonly address: string, readonly signature: string } }>('cmtp/package.json')
const ACCEPTED = VECTORS.accepted as readonly PackageVector[]
const PLAIN = ACCEPTED[0] as PackageVector
const KEY = KeyPair.fromSeed(Buffer.alloc(32, 7))
const DEPLOY: PackagePurpose = { purpose: 'deploy' }
const REPLACE: PackagePurpose = { purpose: 'replace', target: VECTORS.proxy.target, version: 2 }

const packageOf = ({ salt, strategy, manifest, init, module }: PackageMeaning): ContractPackage =>
  ({ salt: bytesOf(salt), strategy, manifest, init: bytesOf(init), module: bytesOf(module) })
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const meaningOf = ({ salt, strategy, manifest, init, module }: ContractPackage): PackageMeaning =>
  ({ salt: hexOf(salt), strategy, manifest, init: hexOf(init), module: hexOf(module) })

const anyField = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 16 }).filter(text => text.length <= 64)
const anyNumber = fc.integer({ min: 0, max: 65_535 })
const anyPackage: fc.Arbitrary<ContractPackage> = fc.record({
  salt: anyMessageId,
  strategy: fc.constantFrom<ContractStrategy>('immutable', 'replaceable'),
  manifest: fc.record({
    name: anyField, version: anyField, compiler: anyField, sdk: anyField, flags: anyField, meter: anyNumber, schedule: anyNumber,
    sourceHash: fc.oneof(fc.constant('none'), fc.stringMatching(/^[0-9a-f]{64}$/)),
  }),
  init: fc.oneof(fc.constant(Buffer.alloc(0)), fc.array(fc.jsonValue(), { maxLength: 4 }).map(value => Buffer.from(JSON.stringify(value)))),
  module: anyBytes,
})

/** A package, or a coded error; and a package has one encoding. */
function expectCanonical(bytes: Buffer): void {
  const { value } = decodeTotally(decodePackage, bytes, /^CMESH_DEPLOY_(MALFORMED|SIZE)$/)
  if (value !== undefined) expect(encodePackage(value)).toEqual(bytes)
}

describe('the contract package', () => {
  test.each(ACCEPTED)('$name', ({ hex, meaning, deployer, address, codeHash: code }) => {
    const pkg = decodePackage(bytesOf(hex))
    expect(meaningOf(pkg)).toEqual(meaning)
    expect(encodePackage(packageOf(meaning)).toString('hex')).toBe(hex)
    expect(contractAddress(bytesOf(hex), deployer)).toBe(address)
    expect(codeHash(pkg.module)).toBe(code)
  })

  test.each(VECTORS.refused)('refused: $name', ({ hex, code, detail }) => {
    const refused = refusal(() => decodePackage(bytesOf(hex)))
    expect(refused).toMatchObject({ code, detail })
    const message = code === 'CMESH_DEPLOY_SIZE' ? 'The module has 262145 bytes; at most 262144 are allowed.' : `The package is not valid: ${detail['reason']}.`
    expect(refused.message).toBe(message)
  })

  test('whatever is encoded decodes to the same', () => {
    fc.assert(fc.property(anyPackage, pkg => {
      expect(meaningOf(decodePackage(encodePackage(pkg)))).toEqual(meaningOf(pkg))
    }), { seed: 11, numRuns: 500 })
  })

  test('any bytes give a package that encodes to the same bytes, or a coded error', () => {
    fc.assert(fc.property(damaged(anyPackage.map(encodePackage)), expectCanonical), { seed: 12, numRuns: 3_000 })
    const bytes = bytesOf((ACCEPTED[2] as PackageVector).hex)
    for (const flipped of everyBitFlip(bytes)) expectCanonical(flipped)
    for (const cut of everyTruncation(bytes)) expectCanonical(cut)
  })

  test('a module has as many bytes as the limit and no more, and what cannot be read is not written', () => {
    const pkg = { ...packageOf(PLAIN.meaning), module: Buffer.alloc(LIMITS.contractBytes) }
    expect(decodePackage(encodePackage(pkg)).module).toHaveLength(262_144)
    expect(refusal(() => encodePackage({ ...pkg, module: Buffer.alloc(LIMITS.contractBytes + 1) })))
      .toMatchObject({ code: 'CMESH_DEPLOY_SIZE', message: 'The module has 262145 bytes; at most 262144 are allowed.' })
    for (const [wrong, reason] of [
      [{ ...pkg, salt: Buffer.alloc(15) }, 'its salt has 15 bytes, not 16'],
      [{ ...pkg, strategy: 'mutable' as ContractStrategy }, 'its strategy is neither 0 (immutable) nor 1 (replaceable)'],
      [{ ...pkg, manifest: { ...pkg.manifest, name: 'a\ud800b' } }, 'its manifest has no canonical form'],
      [{ ...pkg, manifest: { ...pkg.manifest, name: '' } }, 'its manifest lacks name, a text of 1 to 64 characters'],
      [{ ...pkg, init: Buffer.from('7') }, 'its init arguments are not a JSON array'],
    ] as const) expect(refusal(() => encodePackage(wrong)).message).toBe(`The package is not valid: ${reason}.`)
  })

  test('a manifest is filled with what stands for nothing said', () => {
    expect(packageManifest({ name: 'n', version: '1', sdk: 's' })).toEqual({
      name: 'n', version: '1', compiler: 'unknown', sdk: 's', flags: 'none', sourceHash: 'none', meter: 0, schedule: 0,
    })
  })
})

describe('the signature of a package', () => {
  test.each(ACCEPTED)('of $name is what the specification says', ({ hex, deploySignature, replaceSignature, deployer }) => {
    const bytes = bytesOf(hex)
    expect(deployer).toBe(KEY.did)
    for (const [purpose, signature] of [[DEPLOY, deploySignature], [REPLACE, replaceSignature]] as const) {
      const signed = signPackage(bytes, purpose, KEY)
      const split = splitSigned(signed)
      expect(hexOf(split.packageBytes)).toBe(hex)
      expect(hexOf(split.signature)).toBe(signature)
      expect(verifyPackage(bytes, split.signature, purpose, deployer)).toBe(true)
    }
  })

  test('is good for one package, one purpose and one signer', () => {
    const bytes = bytesOf(PLAIN.hex)
    const purposes: readonly PackagePurpose[] = [DEPLOY, REPLACE, { ...REPLACE, version: 3 }, { ...REPLACE, target: `0x${'5b'.repeat(32)}` }]
    for (const made of purposes) {
      const signature = KEY.sign(packageSigningBytes(bytes, made))
      for (const used of purposes) expect(verifyPackage(bytes, signature, used, KEY.did)).toBe(used === made)
      expect(verifyPackage(bytesOf((ACCEPTED[1] as PackageVector).hex), signature, made, KEY.did)).toBe(false)
      expect(verifyPackage(bytes, signature, made, KeyPair.generate().did)).toBe(false)
    }
  })

  test('of any bytes by anybody is true or false, never an error', () => {
    fc.assert(fc.property(anyBytes, anyBytes, fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (pkg, signature, did, target) => {
      expect(verifyPackage(pkg, signature, { purpose: 'replace', target, version: 1 }, did)).toBe(false)
      expect(verifyPackage(pkg, Buffer.alloc(64), DEPLOY, KEY.did)).toBe(false)
      const { packageBytes, signature: rest } = splitSigned(pkg)
      expect(Buffer.concat([packageBytes, rest])).toEqual(Buffer.from(pkg))
    }), { seed: 13, numRuns: 300 })
  })

  test('of a proxy is over target, salt and arguments', () => {
    const { target, salt, init, deployer, address, signature } = VECTORS.proxy
    const request = { target, salt, init }
    expect(hexOf(signProxy(request, KEY))).toBe(signature)
    expect(proxyAddress(target, salt, deployer)).toBe(address)
    expect(verifyProxy(request, bytesOf(signature), deployer)).toBe(true)
    for (const other of [{ ...request, init: '' }, { ...request, salt: 'ff'.repeat(16) }, { ...request, target: `0x${'5b'.repeat(32)}` }]) {
      expect(verifyProxy(other, bytesOf(signature), deployer)).toBe(false)
    }
  })
})

describe('the address of a contract', () => {
  test('is an address, and depends on deployer and package alone', () => {
    fc.assert(fc.property(anyBytes, anyBytes, fc.string({ unit: 'grapheme-ascii' }), (a, b, deployer) => {
      const address = contractAddress(a, deployer)
      expect(isContractAddress(address)).toBe(true)
      expect(contractAddress(a, deployer)).toBe(address)
      expect(contractAddress(a, `${deployer}x`)).not.toBe(address)
      if (!Buffer.from(a).equals(b)) expect(contractAddress(b, deployer)).not.toBe(address)
    }), { seed: 14 })
  })

  test('is SHA-256 of the words of the specification', () => {
    const { hex, deployer, address } = PLAIN
    const hash = createHash('sha256').update('cmesh/contract/address').update('\0').update(deployer).update('\0').update(bytesOf(hex))
    expect(`0x${hash.digest('hex')}`).toBe(address)
  })
})
