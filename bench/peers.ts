/**
 * The packages that benchmarks compare with and nothing else needs. They have a manifest and a lockfile of their own in
 * `bench/peers` and are installed there at their first use, so that setting the project up does not pay for them.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** This file runs as `dist/bench/peers.js`, or as it is in tests. */
const DIRECTORY = ['../../bench/peers/', './peers/'].map(place => fileURLToPath(new URL(place, import.meta.url)))
  .find(place => existsSync(path.join(place, 'package.json'))) ?? ''

/** Longest wait for npm, in ms. */
const INSTALL_MS = 120_000

export type Peer = '@ethereumjs/evm' | '@ethereumjs/util' | 'hyperbee' | 'moleculer'

/** Under way, or over; resolves with what went wrong. */
let installing: Promise<string | undefined> | undefined

const peers = createRequire(path.join(DIRECTORY, 'package.json'))

/** The package, of a type that the caller vouches for. Throws when it is not installed. */
export function loadPeer<T>(peer: Peer): T {
  return peers(peer) as T
}

/**
 * Resolves with nothing when the peer can be loaded, after installing it where needed, else with why it cannot: a comparison
 * that cannot be made is left out, and said to be.
 */
export async function obtainPeer(peer: Peer, log: (line: string) => void): Promise<string | undefined> {
  // What is being installed for another benchmark is half there.
  await installing
  if (isInstalled(peer)) return undefined
  if (installing === undefined) log('installing the peers of the comparisons into bench/peers (once)')
  installing ??= install()
  const failure = await installing
  if (isInstalled(peer)) return undefined
  return `${peer} is not installed and could not be: ${failure ?? 'npm did not say why'}`
}

function isInstalled(peer: Peer): boolean {
  try {
    peers.resolve(peer)
    return true
  } catch {
    return false
  }
}

/** Resolves with what went wrong. */
function install(): Promise<string | undefined> {
  const npm = process.env['npm_execpath']
  const [command, prefix]: [string, string[]] = npm !== undefined && /npm-cli\.c?js$/.test(npm) ? [process.execPath, [npm]] : ['npm', []]
  const args = [...prefix, 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', '--fetch-retries=0', '--fetch-timeout=20000']
  return new Promise(resolve => {
    const child = spawn(command, args, { cwd: DIRECTORY, stdio: ['ignore', 'ignore', 'pipe'], timeout: INSTALL_MS })
    let complaint = ''
    child.stderr.on('data', (chunk: Buffer) => { complaint += chunk.toString() })
    child.once('error', error => { resolve(error.message) })
    child.once('close', code => { resolve(code === 0 ? undefined : complaint.trim().split('\n').slice(0, 3).join(' ') || `npm ended with ${String(code)}`) })
  })
}
