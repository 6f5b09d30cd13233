import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { CredentialStore } from '../../client/credential-store.ts'
import { issueCredentials, SeenPresentations, verifyPresentation } from '../../cmtp/identity/credential.ts'
import { KeyPair, PublicKey } from '../../cmtp/identity/keys.ts'
import { NOW_S, VCT } from '../support/credentials.ts'
import { failureOf } from '../support/iam.ts'

const issuer = KeyPair.generate()
const own = KeyPair.generate()
const audience = KeyPair.generate().did
const to = { audience, nonce: 'transcript', nowS: NOW_S }
const OVER = `${VCT}#over_18`
const NAME = `${VCT}#name`

let directory: string
let store: CredentialStore
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cmesh-test-credentials-'))
  store = new CredentialStore(directory)
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const issue = (dids: readonly string[], fields: Partial<Parameters<typeof issueCredentials>[0]> = {}): Promise<string[]> => issueCredentials({
  issuer, vct: VCT, claims: { over_18: true, name: 'Ada' }, holders: dids.map(did => PublicKey.fromDid(did)), lifeS: 3_600, nowS: NOW_S, ...fields,
})
const verify = async (text: string): Promise<string[]> => {
  const shown = await verifyPresentation(text, { ...to, trusted: new Set([issuer.did]), seen: new SeenPresentations() })
  return shown.attributes.map(({ id, value }) => `${id}=${value}`)
}
const files = async (): Promise<string[]> => {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  return entries.filter(each => each.isFile()).map(each => join(each.parentPath, each.name))
}

describe('a credential of an identity', () => {
  test('is shown again and again, with what is asked for and no more', async () => {
    const [text = ''] = await issue([own.did])
    expect(await store.hold('me', own, text)).toMatchObject({ vct: VCT, oneTime: false })
    for (let i = 0; i < 2; i++) {
      const [shown = '', ...more] = await store.present('me', own, [NAME], to)
      expect(await verify(shown)).toEqual([`${NAME}=Ada`])
      expect(more).toEqual([])
    }
    expect(await store.list('me', own)).toHaveLength(1)
  })

  test('is held once however often it comes, by its identity alone', async () => {
    const [text = ''] = await issue([own.did])
    await store.hold('me', own, text)
    await store.hold('me', own, text)
    expect(await store.list('me', own)).toHaveLength(1)
    expect(await store.list('other', own)).toEqual([])
    expect((await failureOf(() => store.present('other', own, [OVER], to))).message)
      .toContain(`The identity other holds no valid credential with ${OVER}`)
  })

  test('that is bound to another key, or that its issuer did not sign, is not held', async () => {
    const [text = ''] = await issue([KeyPair.generate().did])
    expect((await failureOf(() => store.hold('me', own, text))).code).toBe('CMESH_CLIENT_USAGE')
    const [dids = ''] = await store.makeKeys('other', 1)
    expect((await failureOf(async () => store.hold('me', own, (await issue([dids]))[0] as string))).code).toBe('CMESH_CLIENT_USAGE')
    expect((await failureOf(() => store.hold('me', own, `${text.slice(0, 9)}x${text.slice(10)}`))).code).toBe('CMESH_IAM_CREDENTIAL')
    expect(await store.list('me', own)).toEqual([])
  })

  test('that has expired is listed and not shown', async () => {
    const [text = ''] = await issue([own.did], { nowS: NOW_S - 100, lifeS: 100 })
    await store.hold('me', own, text)
    expect(await store.list('me', own)).toMatchObject([{ expires: NOW_S }])
    expect((await failureOf(() => store.present('me', own, [OVER], to))).code).toBe('CMESH_CLIENT_USAGE')
  })
})

describe('a batch', () => {
  test('is shown one by one, each under a key of its own, until it is used up', async () => {
    for (const text of await issue(await store.makeKeys('me', 3))) await store.hold('me', own, text)
    const shown = []
    for (let i = 0; i < 3; i++) shown.push(...await store.present('me', own, [OVER], to))
    expect(await Promise.all(shown.map(verify))).toEqual(Array.from({ length: 3 }, () => [`${OVER}=true`]))
    // Nothing that a verifier sees comes twice: neither issuer's part, nor disclosure, nor key binding.
    const parts = shown.flatMap(text => text.split('~'))
    expect(new Set(parts).size).toBe(parts.length)
    expect(await failureOf(() => store.present('me', own, [OVER], to))).toMatchObject({ code: 'CMESH_CLIENT_USAGE' })
    expect(await files()).toEqual([])
  })

  test('shows no credential twice when all are asked for at once', async () => {
    for (const text of await issue(await store.makeKeys('me', 4))) await store.hold('me', own, text)
    const outcomes = await Promise.allSettled(Array.from({ length: 6 }, () => new CredentialStore(directory).present('me', own, [OVER], to)))
    const shown = outcomes.flatMap(outcome => (outcome.status === 'fulfilled' ? outcome.value : []))
    expect(shown).toHaveLength(4)
    expect(new Set(shown.map(text => text.split('~')[0])).size).toBe(4)
  })

  test('goes before a credential that can be linked, and nothing of it is used where an attribute is missing', async () => {
    const [plain = ''] = await issue([own.did])
    const [once = ''] = await issue(await store.makeKeys('me', 1))
    for (const text of [plain, once]) await store.hold('me', own, text)
    expect((await failureOf(() => store.present('me', own, [OVER, `${VCT}#other`], to))).code).toBe('CMESH_CLIENT_USAGE')
    expect((await store.list('me', own)).map(({ oneTime }) => oneTime)).toEqual([true, false])
    const [shown = ''] = await store.present('me', own, [OVER, NAME], to)
    expect(shown.split('~')[0]).toBe(once.split('~')[0])
    expect((await verify(shown)).sort()).toEqual([`${NAME}=Ada`, `${OVER}=true`])
  })

  test.each([0, -1, 1.5, 101])('has not %d keys', async count => {
    expect((await failureOf(() => store.makeKeys('me', count))).message).toContain('A batch has 1 to 100 credentials.')
  })
})

describe('an attribute', () => {
  test('is taken from the issuer it is asked of', async () => {
    const other = KeyPair.generate()
    const [mine = ''] = await issue([own.did])
    const [theirs = ''] = await issue([own.did], { issuer: other })
    for (const text of [mine, theirs]) await store.hold('me', own, text)
    const [shown = ''] = await store.present('me', own, [`${OVER}@${other.did}`], to)
    expect(shown.split('~')[0]).toBe(theirs.split('~')[0])
    expect((await failureOf(() => store.present('me', own, [`${OVER}@${KeyPair.generate().did}`], to))).code).toBe('CMESH_CLIENT_USAGE')
  })

  test('of more than four credentials is too many, and none of them is used up', async () => {
    const types = Array.from({ length: 5 }, (_, i) => `${VCT}/${i}`)
    const keys = await store.makeKeys('me', 5)
    for (const [i, vct] of types.entries()) await store.hold('me', own, (await issue([keys[i] as string], { vct }))[0] as string)
    expect((await failureOf(() => store.present('me', own, types.map(vct => `${vct}#over_18`), to))).message).toContain('At most 4 credentials are presented at once.')
    expect(await store.list('me', own)).toHaveLength(5)
  })
})

describe('the files', () => {
  test('are their owner\'s alone, and refused when they are not', async () => {
    const [text = ''] = await issue([own.did])
    await store.makeKeys('me', 1)
    await store.hold('me', own, text)
    for (const file of await files()) expect((await stat(file)).mode & 0o777).toBe(0o600)
    const file = (await files()).find(each => each.includes('/credentials/')) as string
    await chmod(file, 0o644)
    expect(await failureOf(() => store.list('me', own))).toMatchObject({ code: 'CMESH_CLIENT_CREDENTIALS', detail: { reason: `others can read it; run: chmod 600 ${file}` } })
  })

  test('that hold something else are refused', async () => {
    const [text = ''] = await issue(await store.makeKeys('me', 1))
    await store.hold('me', own, text)
    const [file = ''] = await files()
    const whole = JSON.parse(await readFile(file, 'utf8')) as object
    for (const [broken, reason] of [
      [{ version: 9 }, 'it does not hold a credential'], [{ seed: 'AA' }, 'its seed does not have 32 bytes'],
      [{ seed: KeyPair.generate().exportSeed().toString('base64url') }, 'its key is not the one it is bound to'],
    ] as const) {
      await writeFile(file, JSON.stringify({ ...whole, ...broken }))
      expect(await failureOf(() => store.list('me', own))).toMatchObject({ code: 'CMESH_CLIENT_CREDENTIALS', detail: { reason } })
    }
  })
})
