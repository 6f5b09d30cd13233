import { createHash } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { isContractAddress } from '../../cmtp/fqmn.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import {
  codeHash, contractAddress, decodePackage, encodePackage, type ContractManifest, type ContractPackage,
} from '../../cmtp/package.ts'
import { damaged, decodeTotally, everyBitFlip, everyTruncation } from '../support/damage.ts'
import { anyBytes, anyMessageId } from '../support/messages.ts'
import { refusal } from '../support/refusal.ts'
import { bytesOf, readVectors, type AcceptedVector, type CodecVectors } from '../support/vectors.ts'

interface PackageMeaning {
  readonly salt: string
  readonly manifest: ContractManifest
  readonly init: string
  readonly module: string
}
interface PackageVector extends AcceptedVector<PackageMeaning> {
  readonly deployer: string
  readonly address: string
  readonly codeHash: string
}
const VECTORS = readVectors<CodecVectors<PackageMeaning>>('cmtp/package.json')
const ACCEPTED = VECTORS.accepted as readonly PackageVector[]

const packageOf = ({ salt, manifest, init, module }: PackageMeaning): ContractPackage =>
  ({ salt: bytesOf(salt), manifest, init: bytesOf(init), module: bytesOf(module) })
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const meaningOf = ({ salt, manifest, init, module }: ContractPackage): PackageMeaning =>
  ({ salt: hexOf(salt), manifest, init: hexOf(init), module: hexOf(module) })

const anyField = fc.string({ unit: 'binary', minLength: 1, maxLength: 32 })
const anyPackage: fc.Arbitrary<ContractPackage> = fc.record({
  salt: anyMessageId, manifest: fc.record({ name: anyField, version: anyField, compiler: anyField, sdk: anyField }),
  init: anyBytes, module: anyBytes,
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
    expect(refused.message).toBe(`The package is not valid: ${detail['reason']}.`)
  })

  test('whatever is encoded decodes to the same', () => {
    fc.assert(fc.property(anyPackage, pkg => {
      expect(meaningOf(decodePackage(encodePackage(pkg)))).toEqual(meaningOf(pkg))
    }), { numRuns: 500 })
  })

  test('any bytes give a package that encodes to the same bytes, or a coded error', () => {
    fc.assert(fc.property(damaged(anyPackage.map(encodePackage)), expectCanonical), { numRuns: 3_000 })
    const bytes = bytesOf((ACCEPTED[2] as PackageVector).hex)
    for (const flipped of everyBitFlip(bytes)) expectCanonical(flipped)
    for (const cut of everyTruncation(bytes)) expectCanonical(cut)
  })

  test('a module has as many bytes as the limit and no more', () => {
    const pkg = { ...packageOf((ACCEPTED[0] as PackageVector).meaning), module: Buffer.alloc(LIMITS.contractBytes) }
    expect(decodePackage(encodePackage(pkg)).module).toHaveLength(262_144)
    expect(refusal(() => decodePackage(encodePackage({ ...pkg, module: Buffer.alloc(LIMITS.contractBytes + 1) }))))
      .toMatchObject({
      code: 'CMESH_DEPLOY_SIZE', message: 'The module has 262145 bytes; at most 262144 are allowed.',
    })
  })

  test('an unpaired surrogate in the manifest comes back as it was', () => {
    const pkg = packageOf((ACCEPTED[0] as PackageVector).meaning)
    const odd = { ...pkg, manifest: { ...pkg.manifest, name: 'a\ud800b' } }
    expect(decodePackage(encodePackage(odd)).manifest.name).toBe('a\ud800b')
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
    }))
  })

  test('is SHA-256 of the words of the specification', () => {
    const { hex, deployer, address } = ACCEPTED[0] as PackageVector
    const hash = createHash('sha256').update('cmesh/contract/address').update('\0').update(deployer).update('\0').update(bytesOf(hex))
    expect(`0x${hash.digest('hex')}`).toBe(address)
  })
})
