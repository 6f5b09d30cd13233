/** The command line's identities and attributes, from the first word to a session that shows one, on a real node. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { decodeToken } from '../../cmtp/identity/token.ts'
import { CliHome, HAS_TERMINALS, type CliResult, type CliRun } from '../client/support/cli-process.ts'

const VCT = 'https://example.org/age'
const OVER = `${VCT}#over_18`
const WITHHELD = 'Ada of the withheld street'

interface Identity { readonly name: string, readonly did: string, readonly kind: string, readonly context?: string, readonly root?: string }

let home: CliHome
let up: CliRun
let issuer: Identity
beforeAll(async () => {
  home = await CliHome.make()
  home.tells('identity export', 'attribute issue', 'attribute present')
  issuer = await home.json('identity', 'new', 'issuer') as Identity
  up = home.start(['up', '--log-level', 'debug', '--set', `iam.issuers=${issuer.did}`])
  await up.printed('Ctrl-C drains')
})
afterAll(() => home.close())

/** Every file under a directory, by its path. */
async function everythingIn(directory: string): Promise<Map<string, Buffer>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const files = entries.filter(each => each.isFile()).map(each => join(each.parentPath, each.name))
  return new Map(await Promise.all(files.map(async file => [file, await readFile(file)] as const)))
}

/** All that the command line keeps, by file. */
async function kept(directory = home.directory): Promise<Map<string, string>> {
  return new Map(Array.from(await everythingIn(join(directory, 'config')), ([file, bytes]) => [file, bytes.toString()]))
}

const usage = (text: string): object => ({ code: 2, stdout: '', stderr: expect.stringContaining(`error CMESH_CLIENT_USAGE: ${text}`) as unknown })
const everythingOf = ({ stdout, stderr }: CliResult): string => stdout + stderr

describe('cmesh identity', () => {
  test('makes a root, derives of it, and lists both without a secret', async () => {
    const root = await home.json('identity', 'new', 'me') as Identity
    expect(root).toEqual({ name: 'me', did: expect.stringMatching(/^did:key:z6Mk/), kind: 'root', context: 'default' })
    const shop = await home.json('identity', 'derive', 'me', '--context', 'shop', '--as', 'me-shop') as Identity
    expect(shop).toEqual({ name: 'me-shop', did: expect.stringMatching(/^did:key:z6Mk/), kind: 'derived', context: 'shop', root: root.did })
    expect(shop.did).not.toBe(root.did)
    const list = await home.json('identity', 'list') as Identity[]
    expect(list).toEqual(expect.arrayContaining([root, shop]))
    expect((await home.run(['identity', 'show', 'me-shop'])).stdout).toContain(shop.did)
    expect((await home.json('whoami', '--identity', 'me-shop') as { did: string }).did).toBe(shop.did)
  })

  test('prints a secret when it is told to twice, and by no other command', async () => {
    const words = (await home.json('identity', 'export', 'me', '--words', '--yes') as { words: string }).words
    const seed = (await home.json('identity', 'export', 'me', '--seed', '--yes') as { seed: string }).seed
    expect(words.split(' ')).toHaveLength(24)
    const runs = await Promise.all([
      ['identity', 'export', 'me', '--words'], ['identity', 'export', 'me', '--seed'], ['identity', 'export', 'me', '--yes'],
      ['identity', 'export', 'me', '--words', '--seed', '--yes'], ['identity', 'show', 'me'], ['identity', 'list', '--json'],
      ['identity', 'new', 'me'], ['identity', 'export', 'me-shop', '--words', '--yes'],
    ].map(args => home.run(args)))
    for (const run of runs) for (const secret of [words, seed, words.split(' ').slice(0, 3).join(' ')]) expect(everythingOf(run)).not.toContain(secret)
    expect(runs[0]).toMatchObject(usage('What this prints is a secret: whoever reads it is this identity. Say --yes to print it.'))
    expect(runs[1]).toMatchObject({ code: 2, stdout: '' })
    expect(runs[2]).toMatchObject(usage('Give either --words or --seed.'))
    expect(runs[3]).toMatchObject(usage('Give either --words or --seed.'))
    expect(runs[7]).toMatchObject(usage('The identity me-shop has no words: it is no root.'))
  })

  test('exported and imported elsewhere is the same, and so is all that is derived of it', async () => {
    const other = await CliHome.make()
    try {
      const { stdout: words } = await home.run(['identity', 'export', 'me', '--words', '--yes'])
      await writeFile(join(other.directory, 'words'), words, { mode: 0o600 })
      const back = await other.json('identity', 'import', 'again', join(other.directory, 'words')) as Identity
      const derived = await other.json('identity', 'derive', 'again', '--context', 'shop', '--as', 'again-shop') as Identity
      const here = await home.json('identity', 'list') as Identity[]
      const didOf = (name: string): string | undefined => here.find(each => each.name === name)?.did
      expect([back.did, derived.did]).toEqual([didOf('me'), didOf('me-shop')])
      const { stdout: seed } = await home.run(['identity', 'export', 'me-shop', '--seed', '--yes'])
      const piped = await other.run(['identity', 'import', 'piped', '-', '--json'], seed)
      expect(JSON.parse(piped.stdout)).toMatchObject({ did: didOf('me-shop'), kind: 'seed' })
    } finally {
      await other.close()
    }
  })

  test('refuses words that are wrong, and does not repeat them', async () => {
    const wrong = `${'abandon '.repeat(23)}zebra`
    const run = await home.run(['identity', 'import', 'wrong', '-'], wrong)
    expect(run.code).toBe(1)
    expect(run.stderr).toContain('error CMESH_IAM_KEY: The key is refused: the words do not fit their checksum')
    expect(everythingOf(run)).not.toMatch(/abandon|zebra/)
  })
})

describe('cmesh login', () => {
  test('signs nothing where nobody can be asked, unless it was told to', async () => {
    expect(await home.run(['login', '--identity', 'me'])).toMatchObject(usage('Nobody is there to ask for consent: give it beforehand by --yes, or log in on a terminal.'))
  })

  const onTerminal = HAS_TERMINALS ? test : test.skip
  onTerminal.each([['n', 1], ['', 1], ['y', 0]] as const)('answered by %j on a terminal ends with %d, with a session after a yes alone', async (answer, code) => {
    const person = await CliHome.make()
    try {
      const { url } = await home.json('status') as { url: string }
      const login = person.startOnTerminal(['login', '--url', url])
      await login.printed('Sign it? [y/N] ')
      login.child.stdin?.write(`${answer}\n`)
      const said = await login.result
      expect(said).toMatchObject({ code, stdout: expect.stringMatching(/This is what you consent to:[^]*\bmesh +did:key:/) })
      expect(said.stdout.includes('CMESH_IAM_HANDSHAKE')).toBe(code === 1)
      const sessions = [...await kept(person.directory)].filter(([file]) => file.includes('/sessions/'))
      expect(sessions).toHaveLength(code === 0 ? 1 : 0)
    } finally {
      await person.close()
    }
  })

  test('shows all that it consents to, and the session is that', async () => {
    const { code, stdout, stderr } = await home.run(['login', '--identity', 'me', '--yes', '--json'])
    expect(code).toBe(0)
    const session = JSON.parse(stdout) as { did: string, mesh: string, permissions: string[], assurance: number, attributes: unknown[] }
    expect(session).toMatchObject({ assurance: 1, attributes: [] })
    const lines = stderr.split('\n').map(line => line.trim())
    expect(lines[0]).toBe('This is what you consent to:')
    expect(lines).toEqual(expect.arrayContaining([
      expect.stringMatching(`^mesh +${session.mesh}$`), expect.stringMatching(`^you +${session.did}$`), expect.stringMatching(/^keeps +no attributes of you$/),
      expect.stringMatching(/^proven by +swk \(assurance 1 of 2\)$/), expect.stringMatching(/^lasts +300 s, and is renewed while it is used$/),
    ]))
    for (const permission of session.permissions) expect(lines.some(line => line.endsWith(permission))).toBe(true)
  })
})

describe('an attribute', () => {
  test('is issued in a batch, held, shown once, and in the session that was consented to', async () => {
    const keys = (await home.json('attribute', 'request', '--identity', 'me', '--count', '2') as { holders: string[] }).holders
    await writeFile(join(home.directory, 'keys'), `${keys.join('\n')}\n`)
    const { stdout: batch } = await home.run(['attribute', 'issue', VCT, 'over_18=true', `name=${WITHHELD}`, '--identity', 'issuer', '--to-file', join(home.directory, 'keys')])
    expect(await home.run(['attribute', 'hold', '-', '--identity', 'me', '--json'], batch)).toMatchObject({ code: 0 })
    const attribute = { id: OVER, value: 'true', issuer: issuer.did }
    const listed = await home.json('attribute', 'list', '--identity', 'me') as { expiresAtMs: number }[]
    expect(listed).toEqual(expect.arrayContaining([{ ...attribute, expiresAtMs: expect.any(Number), oneTime: true, expired: false }]))
    // The time is that of everything issued on the day, not of the batch.
    for (const { expiresAtMs } of listed) expect(expiresAtMs % 86_400_000).toBe(0)

    const { code, stdout, stderr } = await home.run(['login', '--identity', 'me', '--yes', '--json', '--attribute', OVER])
    expect([code, stderr]).toEqual([0, expect.stringMatching(`keeps +${OVER} = true, said by ${issuer.did}\n`)])
    expect(JSON.parse(stdout)).toMatchObject({ assurance: 2, attributes: [attribute] })
    expect(await home.json('whoami', '--identity', 'me')).toMatchObject({ aal: 2, amr: ['swk', 'vc'], attributes: [attribute] })
    // Neither what was withheld nor the credential itself is anything that the mesh got.
    const sessions = [...await kept()].filter(([file]) => file.includes('/sessions/')).map(([, text]) => JSON.parse(text) as { token: string })
    expect(sessions.map(({ token }) => decodeToken(token).att)).toContainEqual([attribute])
    for (const { token } of sessions) expect(JSON.stringify(decodeToken(token))).not.toMatch(/Ada|jwk|~/)

    // Not in its log on disk, its broker's files, or what it or its broker say at their most talkative.
    const { did } = await home.json('identity', 'show', 'me') as Identity
    const mesh = await everythingIn(join(home.directory, 'mesh'))
    mesh.set('what the node said', Buffer.from(up.stdout + up.stderr))
    const holding = (text: string): string[] => [...mesh].filter(([, bytes]) => bytes.includes(text)).map(([where]) => where)
    const parts = batch.split(/[\s~]+/).filter(part => part.length > 40)
    expect(parts).toHaveLength(2 * 3)
    expect(parts.filter(part => Buffer.from(part, 'base64url').includes(WITHHELD))).toHaveLength(2)
    for (const secret of [WITHHELD, ...parts, ...parts.map(part => part.split('.').at(-1) ?? '')]) expect(holding(secret)).toEqual([])
    // It keeps what is its to keep, where this looks.
    expect(holding(did.slice('did:key:'.length))).toContainEqual(expect.stringContaining('mesh/'))
    expect([...mesh.keys()]).toContainEqual(expect.stringContaining('mesh/broker/'))

    expect(await home.json('attribute', 'list', '--identity', 'me')).toHaveLength(2)
    await home.json('login', '--identity', 'me', '--yes', '--attribute', `${OVER}@${issuer.did}`)
    expect(await home.json('attribute', 'list', '--identity', 'me')).toEqual([])
    expect(await home.run(['login', '--identity', 'me', '--yes', '--attribute', OVER])).toMatchObject(usage(`The identity me holds no valid credential with ${OVER}`))
  })

  test('said by an issuer that the mesh does not trust gives nothing', async () => {
    const { did } = await home.json('identity', 'show', 'me-shop') as Identity
    const { stdout } = await home.run(['attribute', 'issue', VCT, 'over_18=true', '--identity', 'me', '--to', did])
    await home.run(['attribute', 'hold', '-', '--identity', 'me-shop'], stdout)
    const { code, stderr } = await home.run(['login', '--identity', 'me-shop', '--yes', '--attribute', OVER])
    expect([code, stderr]).toEqual([1, expect.stringContaining('error CMESH_IAM_CREDENTIAL: The credential is refused: its issuer is not one that this mesh trusts.')])
  })

  test('is shown to somebody else by a presentation for them', async () => {
    const shown = await home.json('attribute', 'present', OVER, '--identity', 'me-shop', '--audience', issuer.did, '--nonce', 'n-1') as { presentations: string[] }
    const [head = '', disclosed = '', binding = ''] = (shown.presentations[0] as string).split('~')
    expect(JSON.parse(Buffer.from(disclosed, 'base64url').toString())).toEqual([expect.any(String), 'over_18', true])
    expect(JSON.parse(Buffer.from(binding.split('.')[1] as string, 'base64url').toString())).toMatchObject({ aud: issuer.did, nonce: 'n-1' })
    expect(head.split('.')).toHaveLength(3)
  })

  test.each([
    [['attribute', 'issue', VCT, 'over_18', '--to', 'did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp'], 'A claim is name=value, not over_18.'],
    [['attribute', 'issue', VCT, 'a=1'], 'Say who it is issued to: --to <did>, or --to-file <file>.'],
    [['attribute', 'list', '--identity', 'nobody'], 'There is no identity nobody; `cmesh identity new nobody` makes it.'],
  ])('asked for by %j is refused', async (args, text) => {
    expect(await home.run([...args, ...(args.includes('--identity') ? [] : ['--identity', 'issuer'])])).toMatchObject(usage(text))
  })
})
