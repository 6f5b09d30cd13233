/**
 * The JavaScript engines that contracts are compared on: the one that runs the tests, and other versions of Node.js, which are
 * packages of the registry. Those have a manifest and a lockfile of their own in `engines/` and are installed into the
 * project's cache at their first use. One that cannot be had is a reason, never a failure.
 */
import { spawn, spawnSync } from 'node:child_process'
import { copyFile, mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { ROOT } from '../support/sources.ts'

export interface JsEngine {
  /** Such as `node22`. */
  readonly name: string
  /** Its executable; undefined when it cannot be had. */
  readonly path: string | undefined
  /** Why it cannot be had, else its version. */
  readonly about: string
}

const MANIFEST = fileURLToPath(new URL('./engines/', import.meta.url))
const CACHE = path.join(ROOT, 'node_modules', '.cache', 'cmesh', 'engines')
const FILES = ['package.json', 'package-lock.json'] as const
const INSTALL_MS = 180_000

/** The engine that runs the tests, then every other one that the manifest names. */
export async function obtainEngines(): Promise<readonly JsEngine[]> {
  const others = await wanted()
  const missing = others.filter(({ name, version }) => versionOf(executable(name)) !== version)
  const failure = missing.some(({ exists }) => exists) ? await install() : undefined
  const own: JsEngine = { name: `node${process.versions.node.split('.')[0] ?? ''}`, path: process.execPath, about: process.versions.node }
  return [own, ...others.map(({ name, version, exists }): JsEngine => {
    if (!exists) return { name, path: undefined, about: `there is no package of it for ${process.platform}-${process.arch}` }
    const found = versionOf(executable(name))
    if (found === version) return { name, path: executable(name), about: version }
    return { name, path: undefined, about: `it could not be installed: ${failure ?? `its package holds ${found ?? 'nothing that runs'}`}` }
  })]
}

interface Wanted {
  readonly name: string
  readonly version: string
  /** Whether there is a package of it for this platform. */
  readonly exists: boolean
}

async function wanted(): Promise<Wanted[]> {
  const { optionalDependencies } = JSON.parse(await readFile(path.join(MANIFEST, 'package.json'), 'utf8')) as {
    readonly optionalDependencies: Readonly<Record<string, string>>
  }
  const names = new Set(Object.keys(optionalDependencies).map(alias => alias.split('-')[0] as string))
  return [...names].map((name) => {
    const version = optionalDependencies[aliasOf(name)]?.split('@').at(-1)
    return { name, version: version ?? '', exists: version !== undefined }
  })
}

function aliasOf(name: string): string {
  return `${name}-${process.platform}-${process.arch}`
}

function executable(name: string): string {
  return path.join(CACHE, 'node_modules', aliasOf(name), 'bin', 'node')
}

function versionOf(file: string): string | undefined {
  const { status, stdout } = spawnSync(file, ['-p', 'process.versions.node'], { encoding: 'utf8' })
  return status === 0 ? stdout.trim() : undefined
}

/** Resolves with what went wrong. */
async function install(): Promise<string | undefined> {
  await mkdir(CACHE, { recursive: true })
  for (const file of FILES) await copyFile(path.join(MANIFEST, file), path.join(CACHE, file))
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', '--fetch-retries=0', '--fetch-timeout=20000']
  return new Promise((resolve) => {
    const child = spawn('npm', args, { cwd: CACHE, stdio: ['ignore', 'ignore', 'pipe'], timeout: INSTALL_MS })
    let complaint = ''
    child.stderr.on('data', (chunk: Buffer) => { complaint += chunk.toString() })
    child.once('error', (error) => { resolve(error.message) })
    child.once('close', (code) => { resolve(code === 0 ? undefined : complaint.trim().split('\n').slice(0, 3).join(' ') || `npm ended with ${String(code)}`) })
  })
}
