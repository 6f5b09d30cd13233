import { execFile, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../cmtp/errors.ts'
import { locateNatsServer } from '../../node/broker/locate.ts'
import { build, buildNeeded } from '../../node/setup/build.mjs'
import { install, installNeeded } from '../../node/setup/install.mjs'
import { lockFile, withLock } from '../../node/setup/lock.mjs'
import { compareVersions, locate, MIN_VERSION, notFoundText } from '../../node/setup/nats-locate.mjs'
import { obtain, RELEASE, type Release } from '../../node/setup/nats-obtain.mjs'
import { setUp } from '../../node/setup/steps.mjs'

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))
let dir: string
beforeEach(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-setup-test-')) })
afterEach(() => rm(dir, { recursive: true, force: true }))

/** A stand-in that prints what a nats-server prints when it is asked for its version. */
async function fake(place: string, prints = 'nats-server: v2.9.10'): Promise<string> {
  const file = path.join(dir, place)
  await mkdir(path.dirname(file), { recursive: true })
  await writeFile(file, `#!/bin/sh\necho '${prints}'\n`)
  await chmod(file, 0o755)
  return file
}

describe('the search for a nats-server', () => {
  const search = (env: Record<string, string>, extra: string[] = []) =>
    locate({ env: { XDG_CACHE_HOME: path.join(dir, 'cache'), ...env }, extraDirectories: extra })

  test('takes NATS_SERVER_BIN, then the PATH, then the usual directories, then the cache', async () => {
    const explicit = await fake('explicit/any-name')
    const first = await fake('first/nats-server')
    const second = await fake('second/nats-server')
    const usual = await fake('usual/nats-server')
    const cached = await fake('cache/cmesh/nats/2.9.10/nats-server')
    const PATH = [path.dirname(first), path.dirname(second)].join(path.delimiter)
    const version = [2, 9, 10]
    const named = await search({ NATS_SERVER_BIN: explicit, PATH })
    expect(named.found).toEqual({ path: explicit, version, source: 'NATS_SERVER_BIN' })
    expect((await search({ PATH }, [path.dirname(usual)])).found).toEqual({ path: first, version, source: 'PATH' })
    await rm(first)
    expect((await search({ PATH }, [path.dirname(usual)])).found).toEqual({ path: second, version, source: 'PATH' })
    await rm(second)
    expect((await search({ PATH }, [path.dirname(usual)])).found).toEqual({ path: usual, version, source: 'PATH' })
    await rm(usual)
    expect((await search({ PATH }, [path.dirname(usual)])).found).toEqual({ path: cached, version, source: 'cache' })
    await rm(cached)
    expect(await search({ PATH })).toEqual({ tried: ['none on the PATH'] })
  })

  test('prefers the newest in the cache, by number', async () => {
    for (const version of ['2.9.25', '2.10.4', '2.10.29']) {
      await fake(`cache/cmesh/nats/${version}/nats-server`, `nats-server: v${version}`)
    }
    expect((await search({})).found).toMatchObject({ version: [2, 10, 29], source: 'cache' })
  })

  test('passes over what is too old, does not run or is something else, and says so', async () => {
    const old = await fake('a/nats-server', 'nats-server: v2.8.4')
    const other = await fake('b/nats-server', 'gnats 9.9.9')
    const broken = await fake('c/nats-server')
    await writeFile(broken, '#!/nonexistent/interpreter\n')
    const good = await fake('d/nats-server', 'nats-server: v2.9.0')
    const PATH = [old, other, broken, good].map((file) => path.dirname(file)).join(path.delimiter)
    expect(await search({ PATH })).toEqual({
      found: { path: good, version: [2, 9, 0], source: 'PATH' },
      tried: [
        `${old} is 2.8.4, at least 2.9.0 is needed`,
        `${other} does not print the version of a nats-server`,
        `${broken} does not run (ENOENT)`,
      ],
    })
  })

  test('never runs a binary of the working directory', async () => {
    expect(await search({ PATH: ['', '.', 'relative'].join(path.delimiter) })).toEqual({ tried: ['none on the PATH'] })
  })

  test.each([
    ['does not exist', async () => path.join(dir, 'nowhere'), / does not run \(ENOENT\)$/],
    ['is too old', () => fake('old', 'nats-server: v2.8.4'), / is 2\.8\.4, at least 2\.9\.0 is needed$/],
    ['is something else', () => fake('other', 'hello'), / does not print the version of a nats-server$/],
  ])('stops when NATS_SERVER_BIN %s, though the PATH has one', async (_, make, reason) => {
    const explicit = await make()
    const good = await fake('bin/nats-server')
    const failure = locateNatsServer({ env: { NATS_SERVER_BIN: explicit, PATH: path.dirname(good) } })
    const detail = { key: 'NATS_SERVER_BIN', reason: expect.stringMatching(reason) as unknown }
    await expect(failure).rejects.toMatchObject({ code: 'CMESH_CONFIG_INVALID', detail })
    await expect(failure).rejects.toThrow(`The setting NATS_SERVER_BIN is not valid: ${explicit}`)
  })

  test('names four ways to get one when there is none, in the words of the catalogue', () => {
    const text = notFoundText(['none on the PATH', 'apt-get: no'])
    expect(text).toBe(new CMeshError('CMESH_BROKER_NOT_FOUND', { tried: 'none on the PATH; apt-get: no' }).message)
    const ways = ['(1) set NATS_SERVER_BIN', '(2) put nats-server on the PATH', '(3) run `npm run setup`', '(4) on Debian']
    for (const way of [...ways, 'CMESH_NATS_URL']) expect(text).toContain(way)
  })
})

describe('the official release', () => {
  const { fetch } = globalThis
  afterEach(() => { globalThis.fetch = fetch })
  const platform = `${process.platform}-${process.arch}`
  const env = () => ({ XDG_CACHE_HOME: path.join(dir, 'cache') })

  /** An archive as the project publishes it, with a stand-in inside, served instead of the real one. */
  async function publish(prints: string, status = 200) {
    await fake('nats-server-v9.9.9-any/nats-server', prints)
    execFileSync('tar', ['-czf', 'archive.tar.gz', 'nats-server-v9.9.9-any'], { cwd: dir })
    const bytes = await readFile(path.join(dir, 'archive.tar.gz'))
    const asked: string[] = []
    globalThis.fetch = async (url) => {
      asked.push(String(url))
      return new Response(bytes, { status })
    }
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    return { asked, sha256, release: { version: '9.9.9', archives: { [platform]: { name: 'any', sha256 } } } }
  }

  test('is taken into the cache when its checksum is the pinned one', async () => {
    const { asked, release } = await publish('nats-server: v9.9.9')
    const { found } = await obtain({ env: env(), ways: ['release'], release })
    expect(asked).toEqual(['https://github.com/nats-io/nats-server/releases/download/v9.9.9/nats-server-v9.9.9-any.tar.gz'])
    expect(found).toEqual({ path: path.join(dir, 'cache/cmesh/nats/9.9.9/nats-server'), version: [9, 9, 9], source: 'release' })
    expect(await readdir(path.join(dir, 'cache/cmesh/nats/9.9.9'))).toEqual(['nats-server'])
    expect((await locate({ env: env(), extraDirectories: [] })).found).toMatchObject({ source: 'cache', version: [9, 9, 9] })
  })

  test('with another checksum is not even unpacked', async () => {
    const { sha256 } = await publish('nats-server: v9.9.9')
    const release = { version: '9.9.9', archives: { [platform]: { name: 'any', sha256: '0'.repeat(64) } } }
    expect(await obtain({ env: env(), ways: ['release'], release })).toEqual({
      tried: [`the official release: its checksum is ${sha256}, not the pinned one; nothing was installed`],
    })
    expect(existsSync(path.join(dir, 'cache'))).toBe(false)
  })

  test('that does not run here is not kept', async () => {
    const { release } = await publish('something else')
    expect((await obtain({ env: env(), ways: ['release'], release })).tried).toEqual([
      expect.stringMatching(/^the official release: .* does not print the version of a nats-server$/),
    ])
    expect(existsSync(path.join(dir, 'cache'))).toBe(false)
  })

  test('that cannot be had gives the reason', async () => {
    const { release } = await publish('', 503)
    const reason = async (wanted: Release): Promise<string[]> => {
      const { tried } = await obtain({ env: env(), ways: ['release'], release: wanted })
      return tried.map((said) => said.replace(/^the official release: /, ''))
    }
    expect(await reason(release)).toEqual(['github.com answered 503'])
    const cause = new Error('getaddrinfo ENOTFOUND github.com')
    globalThis.fetch = () => Promise.reject(new TypeError('fetch failed', { cause }))
    expect(await reason(release)).toEqual(['github.com cannot be reached (getaddrinfo ENOTFOUND github.com)'])
    expect(await reason({ version: '9.9.9', archives: {} })).toEqual([`no checksum is pinned for ${platform}`])
  })

  test('that is pinned is new enough, and each checksum is whole', () => {
    expect(compareVersions(RELEASE.version.split('.').map(Number) as [number, number, number], MIN_VERSION)).toBeGreaterThan(0)
    for (const archive of Object.values(RELEASE.archives)) expect(archive?.sha256).toMatch(/^[0-9a-f]{64}$/)
  })
})

const apt = await throughApt()
const aptTest = apt.against === undefined ? test : test.skip
describe(`apt-get download${apt.against === undefined ? '' : ` (skipped: ${apt.against})`}`, () => {
  afterAll(() => rm(apt.cache, { recursive: true, force: true }))

  aptTest('brings a nats-server into the cache, where the search finds it', async () => {
    const { before, cache, found, lines } = apt
    expect(before).toEqual({ tried: ['none on the PATH'] })
    expect(lines[0]).toBe('downloading nats-server with apt-get, without root')
    expect(found).toMatchObject({ source: 'apt', path: expect.stringContaining(path.join(cache, 'cmesh', 'nats')) })
    const located = await locate({ env: { PATH: '', XDG_CACHE_HOME: cache }, extraDirectories: [] })
    expect(located).toEqual({ found: { ...found, source: 'cache' }, tried: ['none on the PATH'] })
    expect(await readdir(path.join(cache, 'cmesh', 'nats'))).toHaveLength(1)
  })
})

describe('the packages', () => {
  const entry = (version: string, more = {}) => ({ version, integrity: `sha512-${version}`, ...more })
  async function project(wanted: object, found?: object): Promise<string> {
    await writeFile(path.join(dir, 'package-lock.json'), JSON.stringify({ packages: { '': { name: 'x' }, ...wanted } }))
    if (found === undefined) return dir
    await mkdir(path.join(dir, 'node_modules'), { recursive: true })
    await writeFile(path.join(dir, 'node_modules', '.package-lock.json'), JSON.stringify({ packages: found }))
    return dir
  }

  test('are missing in a fresh clone', async () => {
    expect(await installNeeded(await project({}))).toBe('none are installed')
  })

  test('stand when npm recorded what the lockfile says, for other platforms or not', async () => {
    const here = { 'node_modules/a': entry('1.0.0') }
    const root = await project({ ...here, 'node_modules/b-win32': entry('1.0.0', { optional: true }) }, here)
    expect(await installNeeded(root)).toBeUndefined()
    await rm(path.join(root, 'node_modules', '.package-lock.json'))
    expect(await installNeeded(root)).toBeUndefined()
  })

  test.each([
    ['a missing one', { 'node_modules/a': entry('1.0.0') }, {}],
    ['another version', { 'node_modules/a': entry('1.0.1') }, { 'node_modules/a': entry('1.0.0') }],
    ['other bytes', { 'node_modules/a': entry('1.0.0') }, { 'node_modules/a': entry('1.0.0', { integrity: 'sha512-other' }) }],
  ])('are stale with %s', async (_, wanted, found) => {
    expect(await installNeeded(await project(wanted, found))).toBe('the lockfile has changed')
  })

  test('are stale once the lockfile has changed', async () => {
    const root = await project({ 'node_modules/a': entry('1.0.0') }, { 'node_modules/a': entry('1.0.0') })
    expect(await installNeeded(root)).toBeUndefined()
    await project({ 'node_modules/a': entry('2.0.0') })
    expect(await installNeeded(root)).toBe('the lockfile has changed')
  })

  test('are stale for another Node.js', async () => {
    const root = await project({}, {})
    expect(await installNeeded(root)).toBeUndefined()
    const stamp = path.join(root, 'node_modules', '.cmesh-stamp')
    await writeFile(stamp, (await readFile(stamp, 'utf8')).replace(process.versions.modules, '1'))
    expect(await installNeeded(root)).toBe('Node.js has changed')
  })

  test('that npm cannot install fail with npm\'s words and what to do', async () => {
    await writeFile(path.join(dir, 'package.json'), '{"name":"x","version":"1.0.0"}')
    const failure = install(dir)
    await expect(failure).rejects.toThrow(/^npm ci failed \(1\)\.\n[^]*existing package-lock\.json/)
    await expect(failure).rejects.toThrow('\nIt needs the npm registry once: check the network')
  })
})

describe('the build', () => {
  beforeEach(async () => {
    await symlink(path.join(REPOSITORY, 'node_modules', 'typescript'), path.join(await directory('node_modules'), 'typescript'))
    await writeFile(path.join(dir, 'tsconfig.json'), JSON.stringify({
      compilerOptions: {
        module: 'nodenext', target: 'es2022', lib: ['es5'], skipLibCheck: true, types: [],
        rootDir: '.', outDir: 'dist', incremental: true, tsBuildInfoFile: 'node_modules/.cache/tsc/build.tsbuildinfo',
      },
      include: ['cmtp/*.ts'],
    }))
    await writeFile(path.join(await directory('cmtp'), 'one.ts'), 'export const one: number = 1\n')
  })
  async function directory(name: string): Promise<string> {
    await mkdir(path.join(dir, name), { recursive: true })
    return path.join(dir, name)
  }

  test('is needed once, and again only when the content of a source has changed', async () => {
    expect(await buildNeeded(dir)).toBe('nothing is built yet')
    await build(dir)
    expect(existsSync(path.join(dir, 'dist/cmtp/one.js'))).toBe(true)
    expect(await buildNeeded(dir)).toBeUndefined()
    await utimes(path.join(dir, 'cmtp/one.ts'), 1, 1)
    expect(await buildNeeded(dir)).toBeUndefined()
    await writeFile(path.join(dir, 'cmtp/one.ts'), 'export const one: number = 2\n')
    expect(await buildNeeded(dir)).toBe('sources have changed')
  })

  test('writes everything anew when dist was removed', async () => {
    await build(dir)
    await rm(path.join(dir, 'dist'), { recursive: true })
    await build(dir)
    expect(existsSync(path.join(dir, 'dist/cmtp/one.js'))).toBe(true)
  })

  test('removes what was compiled from a source that is gone', async () => {
    await writeFile(path.join(dir, 'cmtp/two.ts'), 'export const two = 2\n')
    await build(dir)
    await rm(path.join(dir, 'cmtp/two.ts'))
    await build(dir)
    expect(await readdir(path.join(dir, 'dist/cmtp'))).toEqual(['one.js'])
    expect(await buildNeeded(dir)).toBeUndefined()
  })

  test('compiles the shipped contracts when there is a compiler for them', async () => {
    const compiler = 'require("fs").writeFileSync("dist/genesis", "made")'
    await writeFile(path.join(await directory('dist/client/contract'), 'build-genesis.js'), compiler)
    await build(dir)
    expect(await readFile(path.join(dir, 'dist/genesis'), 'utf8')).toBe('made')
  })

  test('that fails says where and is needed still', async () => {
    await writeFile(path.join(dir, 'cmtp/one.ts'), 'export const one: number = "one"\n')
    const failure = build(dir)
    await expect(failure).rejects.toThrow(/^The TypeScript build failed \(2\):\ncmtp\/one\.ts\(1,14\): error TS2322/)
    await expect(failure).rejects.toThrow('\nMend the sources and run `npm run setup` again.')
    expect(await buildNeeded(dir)).toBe('nothing is built yet')
  })
})

describe('a program of a mesh', () => {
  const programs = ['main.js', 'cluster/main.js', 'archive/main.js'].map(name => [name, path.join(REPOSITORY, 'dist', 'node', name)] as const)

  test.each(programs)('is one file, which imports packages alone: %s', async (_, file) => {
    const text = await readFile(file, 'utf8')
    const imported = [...text.matchAll(/^(?:import|export)\b[^'"]*?["']([^"']+)["'];?$|\bimport\(["']([^"']+)["']\)/gm)].map(([, from, loaded]) => from ?? loaded)
    expect(imported).toContain('node:path')
    expect(imported.filter(name => name?.startsWith('.'))).toEqual([])
  })

  test.each(programs)('looks for what lies beside its modules where they lie: %s', async (_, file) => {
    const text = await readFile(file, 'utf8')
    const places = [...text.matchAll(/\bnew URL\(["'](\.[^"']+)["'], import\.meta\.url\)\.href/g)].map(([, place]) => place ?? '')
    expect(places.length).toBe(text.split('import.meta.url').length - 1)
    expect(places.length).toBeGreaterThan(0)
    expect(places.filter(place => !existsSync(path.resolve(path.dirname(file), place)))).toEqual([])
  })
})

describe('the lock', () => {
  test('lets one in at a time, and the next after a failure', async () => {
    const order: string[] = []
    const waited: number[] = []
    let finish = (): void => undefined
    let enter = (): void => undefined
    const entered = new Promise<void>((resolve) => { enter = resolve })
    const first = withLock(dir, async () => {
      order.push('first in')
      enter()
      await new Promise<void>((resolve) => { finish = resolve })
      order.push('first out')
      throw new Error('it failed')
    }, () => undefined)
    await entered
    const second = withLock(dir, async () => { order.push('second in') }, (pid) => {
      waited.push(pid)
      finish()
    })
    await expect(first).rejects.toThrow('it failed')
    await second
    expect(order).toEqual(['first in', 'first out', 'second in'])
    expect(waited).toEqual([process.pid])
    expect(existsSync(lockFile(dir))).toBe(false)
  })

  test('of a process that died is taken over', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, ['-p', 'process.pid'])
    await writeFile(lockFile(dir), stdout)
    expect(await withLock(dir, async () => 'in', () => { throw new Error('it waited') })).toBe('in')
  })
})

describe('the set-up', () => {
  /** A project in which nothing is left to do but the broker. */
  async function ready(): Promise<void> {
    await writeFile(path.join(dir, 'package-lock.json'), '{"packages":{}}')
    await mkdir(path.join(dir, 'node_modules', 'typescript', 'bin'), { recursive: true })
    await writeFile(path.join(dir, 'node_modules', '.package-lock.json'), '{"packages":{}}')
    const compiler = 'require("fs").mkdirSync("dist", { recursive: true })'
    await writeFile(path.join(dir, 'node_modules', 'typescript', 'bin', 'tsc'), compiler)
    await build(dir)
  }
  async function run(env: Record<string, string>) {
    const printed: string[] = []
    const complaints: string[] = []
    const status = await setUp({ root: dir, env, print: (line) => printed.push(line), complain: (line) => complaints.push(line) })
    return { status, printed, complaints }
  }

  test('says in one line that nothing is left to do', async () => {
    await ready()
    const NATS_SERVER_BIN = await fake('nats-server')
    expect(await run({ NATS_SERVER_BIN })).toEqual({
      status: 0, printed: [`set up already (node ${process.versions.node}, nats-server 2.9.10)`], complaints: [],
    })
  })

  test('needs no binary where a cluster is given, and prints no password', async () => {
    await ready()
    expect((await run({ CMESH_NATS_URL: 'nats://me:secret@broker:4222' })).printed).toEqual([
      `set up already (node ${process.versions.node}, NATS at nats://broker:4222)`,
    ])
  })

  test('does what is missing and nothing else', async () => {
    await ready()
    await rm(path.join(dir, 'dist'), { recursive: true })
    expect((await run({ CMESH_NATS_URL: 'nats://broker:4222' })).printed).toEqual([
      'broker: NATS at nats://broker:4222', 'building (nothing is built yet)', `set up (node ${process.versions.node})`,
    ])
  })

  test('fails with what to do', async () => {
    await ready()
    expect(await run({ NATS_SERVER_BIN: '/nowhere' })).toEqual({
      status: 1, printed: [], complaints: [
        'set-up failed: NATS_SERVER_BIN cannot be used: /nowhere does not run (ENOENT). '
          + 'Set it to a nats-server of 2.9.0 or newer, or unset it.',
      ],
    })
  })

  test('refuses an old Node.js before it loads anything else', async () => {
    const pretend = 'Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.18.3" } })'
    const old = `data:text/javascript,${encodeURIComponent(pretend)}`
    const failure = promisify(execFile)(process.execPath, ['--import', old, path.join(REPOSITORY, 'node/setup/setup.mjs')])
    await expect(failure).rejects.toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/^CMesh needs Node\.js 20\.19 or newer; this is 20\.18\.3\.\nGet it from https:/),
    })
  })
})

/** One try by apt-get, and why it says nothing here: a machine without it or without a network is no failure of ours. */
async function throughApt() {
  const cache = await mkdtemp(path.join(os.tmpdir(), 'cmesh-setup-apt-'))
  const env = { PATH: '', XDG_CACHE_HOME: cache }
  const lines: string[] = []
  const before = await locate({ env, extraDirectories: [] })
  if (!existsSync('/usr/bin/apt-get')) return { before, cache, found: undefined, lines, against: 'this machine has no apt-get' }
  const { found, tried } = await obtain({ env, ways: ['apt'], log: (line) => lines.push(line) })
  const network = tried.find((reason) => /resolve|connect|fetch|locate/i.test(reason))
  return { before, cache, found, lines, against: network === undefined ? undefined : `Debian's packages cannot be reached: ${network}` }
}
