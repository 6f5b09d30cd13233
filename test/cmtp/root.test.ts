import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { checkContext, deriveSeed, makeRoot, rootOfWords, seedOfWords, wordsOfRoot, type KeyPurpose } from '../../cmtp/identity/root.ts'
import { failureOf } from '../support/iam.ts'
import { refusal } from '../support/refusal.ts'
import { bytesOf, readVectors } from '../support/vectors.ts'

const bip39 = readVectors<{ passphrase: string, cases: { entropy: string, words: string, seed: string }[] }>('identity/bip39.json')
const hkdf = readVectors<{
  cases: { words: string, purpose: KeyPurpose, context: string, seed: string, did?: string }[]
}>('identity/hkdf.json')

const words = (at: number): string => (bip39.cases[at] as { words: string }).words

describe('the words of a root', () => {
  test.each(bip39.cases)('are those of BIP39 for $entropy, and so is their seed', async ({ entropy, words: expected, seed }) => {
    expect(await wordsOfRoot(bytesOf(entropy))).toBe(expected)
    expect((await rootOfWords(expected)).toString('hex')).toBe(entropy)
    expect(seedOfWords(expected, bip39.passphrase).toString('hex')).toBe(seed)
  })

  test('come back as the root they were made of, in any case and spacing', async () => {
    await fc.assert(fc.asyncProperty(fc.uint8Array({ minLength: 32, maxLength: 32 }), async root => {
      const text = await wordsOfRoot(root)
      expect(Buffer.from(root).equals(await rootOfWords(text))).toBe(true)
      expect(Buffer.from(root).equals(await rootOfWords(`\n ${text.toUpperCase().replaceAll(' ', ' \t\n')} `))).toBe(true)
    }), { numRuns: 25 })
  })

  test.each([
    ['', 'a root has 24 words, not 0'],
    ['abandon about', 'a root has 24 words, not 2'],
    [words(0).replace('art', 'arts'), 'word 24 is not one of the BIP39 list'],
    [words(0).replace(/ art$/, ' abandon'), 'the words do not fit their checksum: one is another than it was, or they are in another order'],
    [words(4).split(' ').reverse().join(' '), 'the words do not fit their checksum: one is another than it was, or they are in another order'],
  ])('"%.30s" are refused, and the refusal repeats none of them', async (text, reason) => {
    const failure = await failureOf(() => rootOfWords(text))
    expect(failure).toMatchObject({ code: 'CMESH_IAM_KEY', message: `The key is refused: ${reason}.` })
    expect(failure.cause).toBeUndefined()
  })

  test('are made of 32 bytes alone', async () => {
    for (const length of [0, 16, 31, 33]) {
      expect(await failureOf(() => wordsOfRoot(new Uint8Array(length)))).toMatchObject({ code: 'CMESH_IAM_KEY', detail: { reason: `a root has 32 bytes, not ${length}` } })
    }
  })

  test('of two new roots are different', async () => {
    expect(makeRoot()).toHaveLength(32)
    expect(await wordsOfRoot(makeRoot())).not.toBe(await wordsOfRoot(makeRoot()))
  })
})

describe('a derived key', () => {
  test.each(hkdf.cases)('for $purpose in $context is what another implementation of the formula gives', ({ words: text, purpose, context, seed, did }) => {
    const derived = deriveSeed(seedOfWords(text), purpose, context)
    expect(derived.toString('hex')).toBe(seed)
    if (did !== undefined) expect(KeyPair.fromSeed(derived).did).toBe(did)
  })

  const context = fc.string({ minLength: 1, maxLength: 40, unit: 'grapheme-ascii' }).filter(text => !text.includes('|'))
  const purpose = fc.constantFrom<KeyPurpose>('did', 'nats', 'x25519')

  test('is another one for another purpose, context or root', () => {
    const seeds = [seedOfWords(words(0)), seedOfWords(words(1))] as const
    fc.assert(fc.property(fc.nat(1), purpose, context, fc.nat(1), purpose, context, (rootA, purposeA, contextA, rootB, purposeB, contextB) => {
      const same = rootA === rootB && purposeA === purposeB && contextA === contextB
      const [a, b] = [deriveSeed(seeds[rootA] as Buffer, purposeA, contextA), deriveSeed(seeds[rootB] as Buffer, purposeB, contextB)]
      expect(a.equals(b)).toBe(same)
    }))
  })

  test.each([
    ['', 'a context has 1 to 256 bytes, not 0'],
    ['x'.repeat(257), 'a context has 1 to 256 bytes, not 257'],
    ['Zu\u0308rich', 'a context is written in one way (Unicode NFC)'],
    ['shop|1', 'a context has no |'],
    ['\ud800', 'a context is well-formed text'],
  ])('has no context "%.12s"', (text, reason) => {
    expect(refusal(() => deriveSeed(seedOfWords(words(0)), 'did', text))).toMatchObject({ code: 'CMESH_IAM_KEY', detail: { reason } })
    expect(refusal(() => checkContext(text))).toMatchObject({ code: 'CMESH_IAM_KEY', detail: { reason } })
  })

  test('of the longest context is derived', () => {
    expect(deriveSeed(seedOfWords(words(0)), 'did', 'x'.repeat(256))).toHaveLength(32)
  })
})
