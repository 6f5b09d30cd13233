/** `cmesh operator`: the files it makes, who may read them, and what it refuses. What a server makes of them is `exported-accounts.test.ts`. */
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { run } from '../../client/cli/program.ts'
import { readAccounts, type BrokerAccounts } from '../../cmtp/identity/nats-accounts.ts'
import { accountJwt, decodeNatsJwt } from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { BROKER_LIMITS } from '../../node/broker/config.ts'
import { capture } from '../client/support/capture.ts'

const SEED = /S[OAU][A-Z2-7]{56}/
const modeOf = async (file: string): Promise<number> => (await stat(file)).mode & 0o777

let home: string
beforeEach(async () => { home = await mkdtemp(path.join(os.tmpdir(), 'cmesh-test-operator-')) })
afterEach(() => rm(home, { recursive: true, force: true }))

interface Said { readonly code: number, readonly stdout: string, readonly stderr: string }

async function cmesh(...args: readonly string[]): Promise<Said> {
  const { terminal, out, err } = capture()
  const code = await run(['operator', ...args], terminal)
  return { code, stdout: out(), stderr: err() }
}

/** Runs a command that must succeed. */
async function done(...args: readonly string[]): Promise<Said> {
  const said = await cmesh(...args)
  expect(said).toMatchObject({ code: 0 })
  return said
}

const refusedBecause = (code: number, error: string, text: string): object =>
  ({ code, stdout: '', stderr: expect.stringContaining(`error ${error}: ${text}`) as unknown })
const usage = (text: string): object => refusedBecause(2, 'CMESH_CLIENT_USAGE', text)
const unusable = (reason: string): object => refusedBecause(2, 'CMESH_BROKER_ACCOUNTS', `The broker's accounts cannot be used: ${reason}`)
const accountsIn = async (file: string): Promise<BrokerAccounts> => readAccounts(await readFile(file, 'utf8'))

describe('cmesh operator init', () => {
  test('makes every key once, for its user alone, and shows none', async () => {
    const dir = path.join(home, 'op')
    const { stdout, stderr } = await done('init', '--out', dir)
    const file = path.join(dir, 'accounts.json')
    expect([await modeOf(dir), await modeOf(file), await readdir(dir)]).toEqual([0o700, 0o600, ['accounts.json']])
    const made = await accountsIn(file)
    expect(made.operator?.text).toBe(decodeNatsJwt(made.operatorJwt).sub)
    expect(await readFile(file, 'utf8')).toMatch(SEED)
    expect(stdout + stderr).not.toMatch(SEED)
    expect(stdout).toContain(made.accounts.MESH.id)
    expect(stderr).toContain(`Next: cmesh operator export --from ${dir}`)
  })

  test('leaves what is there alone unless it is told to make its keys anew, and keeps the accounts then', async () => {
    const file = path.join(home, 'accounts.json')
    await done('init', '--out', home)
    const before = await readFile(file, 'utf8')
    expect(await cmesh('init', '--out', home)).toMatchObject(usage(`${file} exists; --force makes its keys anew`))
    expect(await readFile(file, 'utf8')).toBe(before)

    await done('init', '--out', home, '--force')
    const [old, made] = [readAccounts(before), await accountsIn(file)]
    const keys = ({ operator, signing, session, accounts }: BrokerAccounts): string[] =>
      [operator, signing, session, ...Object.values(accounts).map(each => each.signing)].map(key => key?.text ?? '')
    expect(keys(made).filter(key => keys(old).includes(key))).toEqual([])
    expect(Object.values(made.accounts).map(each => each.id)).toEqual(Object.values(old.accounts).map(each => each.id))
    expect([await modeOf(file), await readdir(home)]).toEqual([0o600, ['accounts.json']])
  })
})

describe('cmesh operator export', () => {
  test('gives servers public texts, and nodes all but the operator\'s own key', async () => {
    const [from, to] = [path.join(home, 'op'), path.join(home, 'nats')]
    await done('init', '--out', from)
    const { stdout, stderr } = await done('export', '--from', from, '--out', to, '--server-dir', '/srv/nats')
    expect(stdout + stderr).not.toMatch(SEED)
    const whole = await accountsIn(path.join(from, 'accounts.json'))
    const ids = Object.values(whole.accounts).map(each => each.id)
    expect((await readdir(to)).sort()).toEqual(['accounts.conf', 'jwt', 'nats.conf', 'node.json'])
    expect((await readdir(path.join(to, 'jwt'))).sort()).toEqual(ids.map(id => `${id}.jwt`).sort())

    const node = await readFile(path.join(to, 'node.json'), 'utf8')
    expect(await modeOf(path.join(to, 'node.json'))).toBe(0o600)
    expect(readAccounts(node).operator).toBeUndefined()
    expect(node).not.toContain(whole.operator?.exportSeed())
    expect(node).not.toMatch(/SO[A-Z2-7]{56}[^]*SO[A-Z2-7]{56}/)
    expect(readAccounts(node).signing.text).toBe(whole.signing.text)

    const names = ['accounts.conf', 'nats.conf', ...ids.map(id => path.join('jwt', `${id}.jwt`))]
    const texts = await Promise.all(names.map(name => readFile(path.join(to, name), 'utf8')))
    for (const text of texts) expect(text).not.toMatch(SEED)
    expect(texts[0]).toContain('dir: "/srv/nats/jwt"')
    expect(texts[1]).toContain('store_dir: "/srv/nats/store"')
    const written = (name: string): string => new RegExp(`^${name}: "?(.+?)"?$`, 'm').exec(texts[1] ?? '')?.[1] ?? ''
    expect([written('max_payload'), written('max_pending'), Number(written('max_connections')), written('ping_interval'), Number(written('ping_max'))])
      .toEqual([
        `${BROKER_LIMITS.payloadBytes / 2 ** 20}MB`, `${BROKER_LIMITS.pendingBytes / 2 ** 20}MB`, BROKER_LIMITS.connections,
        `${BROKER_LIMITS.pingS}s`, BROKER_LIMITS.pings,
      ])
    expect(BROKER_LIMITS.payloadBytes).toBeGreaterThan(LIMITS.frameBytes)
  })

  test('writes over an export only when told to, and never over a nats.conf or what a server added', async () => {
    const [from, to] = [path.join(home, 'op'), path.join(home, 'nats')]
    await done('init', '--out', from)
    await done('export', '--from', from, '--out', to)
    expect(await cmesh('export', '--from', from, '--out', to))
      .toMatchObject(usage(`${path.join(to, 'node.json')} exists; --force writes over what was exported before.`))

    const { signing, accounts: { MESH: mesh, CORE: core } } = await accountsIn(path.join(from, 'accounts.json'))
    const [meshFile, coreFile] = [mesh, core].map(({ id }) => path.join('jwt', `${id}.jwt`)) as [string, string]
    const { iat } = decodeNatsJwt(mesh.jwt)
    const gone = Nkey.generate('user').text
    const newer = accountJwt(signing, { name: 'MESH', id: mesh.id, keys: [], revocations: { [gone]: iat } }, iat + 1)
    await writeFile(path.join(to, meshFile), newer)
    await writeFile(path.join(to, coreFile), accountJwt(Nkey.generate('operator'), { name: 'CORE', id: core.id, keys: [] }, iat + 9))
    await writeFile(path.join(to, 'nats.conf'), 'port: 9\n')
    await rm(path.join(to, 'accounts.conf'))
    const { stdout } = await done('export', '--from', from, '--out', to, '--force', '--json')
    const written: unknown = expect.arrayContaining(['node.json', 'accounts.conf', coreFile])
    expect(JSON.parse(stdout)).toMatchObject({ directory: to, kept: ['nats.conf', meshFile], written })
    const left = async (name: string): Promise<string> => await readFile(path.join(to, name), 'utf8')
    expect([await left('nats.conf'), await left(meshFile), await left(coreFile)]).toEqual(['port: 9\n', newer, core.jwt])
    expect((await done('export', '--from', from, '--out', to, '--force')).stdout)
      .toMatch(/nats\.conf +left as it was; it needs the line: include \.\/accounts\.conf/)
  })
})

test('cmesh operator export takes no accounts of a version that wants other ones', async () => {
  await done('init', '--out', home)
  const file = path.join(home, 'accounts.json')
  const { signing, accounts: { CORE: core } } = await accountsIn(file)
  const other = accountJwt(signing, { name: 'CORE', id: core.id, keys: [core.signing.text], jetStream: true, connections: 3 }, 1)
  await writeFile(file, (await readFile(file, 'utf8')).replace(core.jwt, other))
  const said = await cmesh('export', '--from', home, '--out', path.join(home, 'nats'))
  expect(said).toMatchObject(usage(`${home} is of another version of cmesh`))
  expect(await readdir(home)).toEqual(['accounts.json'])
  await done('init', '--out', home, '--force')
  await done('export', '--from', home, '--out', path.join(home, 'nats'))
})

describe('cmesh operator show', () => {
  test('says what each account may do, of a whole file and of a node\'s', async () => {
    const [from, to] = [path.join(home, 'op'), path.join(home, 'nats')]
    await done('init', '--out', from)
    await done('export', '--from', from, '--out', to)
    const { operatorJwt, accounts } = await accountsIn(path.join(from, 'accounts.json'))
    const users = {
      MESH: {
        role: 'session', subscribe: ['_INBOX.<sid>.>'],
        publish: ['cmesh.v1.req.<sid>', 'cmesh.v1.req.<sid>.*', 'cmesh.v1.hello.<sid>', 'cmesh.v1.hello.<sid>.*', 'cmesh.v1.mine.<sid>'],
      },
      GUEST: { role: 'guest', subscribe: ['_INBOX.<nkey>.>'], publish: ['cmesh.v1.hello.<nkey>', 'cmesh.v1.hello.<nkey>.*'] },
    }
    for (const [dir, file, operatorKey] of [[from, 'accounts.json', true], [to, 'node.json', false]] as const) {
      const shown = JSON.parse((await done('show', dir, '--json')).stdout) as { accounts: { name: string, id: string, users?: object }[] }
      expect(shown).toMatchObject({ file: path.join(dir, file), operator: decodeNatsJwt(operatorJwt).sub, operatorKey })
      expect(shown.accounts.map(each => [each.name, each.id, each.users]))
        .toEqual(Object.entries(accounts).map(([name, { id }]) => [name, id, users[name as keyof typeof users]]))
      const { stdout } = await done('show', dir)
      expect(stdout).toContain('GUEST: a guest may publish cmesh.v1.hello.<nkey>, cmesh.v1.hello.<nkey>.*\n'
        + '  and subscribe to _INBOX.<nkey>.>; nothing else; 1024 connections at once')
      expect(stdout).not.toMatch(SEED)
    }
  })
})

describe('files that cannot be used', () => {
  const file = (): string => path.join(home, 'accounts.json')
  test.each<readonly [why: string, make: () => Promise<unknown>, reason: RegExp | string]>([
    ['open to others', () => chmod(file(), 0o640), 'others can read it; run: chmod 600'],
    ['in a directory that others can write to', () => chmod(home, 0o777), 'others can write to it; run: chmod 700'],
    ['no JSON', () => writeFile(file(), '{'), 'it is no JSON'],
    ['of another version', () => change({ version: 2 }), 'they are of another version'],
    ['of another operator', async () => change({ operatorJwt: (await other()).operatorJwt }), 'the operator\'s key is another one than its JWT names'],
    ['without an account', () => change({ accounts: {} }), 'a part of them is missing'],
    ['with a key that is none', () => change({ signing: 'SOAB' }), 'The key is refused: the seed of an nkey has 58 characters'],
  ])('%s are refused by every command, and nothing of them is repeated', async (_, make, reason) => {
    await done('init', '--out', home)
    const { signing } = await accountsIn(file())
    await make()
    const runs = [['init', '--out', home, '--force'], ['export', '--from', home, '--out', path.join(home, 'to')], ['show', home]]
    for (const args of runs) {
      const said = await cmesh(...args)
      expect(said).toMatchObject(unusable(''))
      expect(said.stderr).toContain(home)
      expect(said.stderr).toContain(reason)
      expect(said.stderr).not.toContain(signing.exportSeed())
      expect(said.stderr).not.toMatch(SEED)
    }
    expect(await readdir(home)).toEqual(['accounts.json'])
  })

  test('and none at all are a matter of what was typed', async () => {
    expect(await cmesh('export', '--from', home, '--out', home))
      .toMatchObject(usage(`${home} has no accounts.json; \`cmesh operator init --out ${home}\` makes it.`))
    expect(await cmesh('show', home)).toMatchObject(usage(`${home} has neither accounts.json nor node.json.`))
    for (const args of [['init'], ['export', '--from', home], ['show']]) expect((await cmesh(...args)).code).toBe(2)
    await writeFile(path.join(home, 'file'), '')
    expect(await cmesh('init', '--out', path.join(home, 'file', 'in')))
      .toMatchObject(unusable(`${path.join(home, 'file', 'in', 'accounts.json')}: it cannot be opened (ENOTDIR)`))
  })

  async function change(what: object): Promise<void> {
    await writeFile(file(), JSON.stringify({ ...JSON.parse(await readFile(file(), 'utf8')) as object, ...what }))
  }

  async function other(): Promise<{ operatorJwt: string }> {
    await done('init', '--out', path.join(home, 'another'))
    const value = JSON.parse(await readFile(path.join(home, 'another', 'accounts.json'), 'utf8')) as { operatorJwt: string }
    await rm(path.join(home, 'another'), { recursive: true })
    return value
  }
})
