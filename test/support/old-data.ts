/**
 * A data directory as CMesh 0.1.0 left it, kept as a backup file and as the files of its log: 31 blocks of version 1 with genesis, a
 * deployed guestbook, three names, a grant and some calls. Its keys are known, for they protect nothing.
 */
import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { ROOT } from './sources.ts'

const NODE_SEED = Buffer.alloc(32, 0x11)
const LOG_SEED = Buffer.alloc(32, 0x22)

export const OLD_DATA = {
  backup: path.join(ROOT, 'test', 'vectors', 'state', 'data-1.backup'),
  mesh: 'did:key:z6MktULudTtAsAhRegYPiZ6631RV3viv12qd4GQF8z1xB22S',
  blocks: 31,
  chain: '3448541f888e337950b14dfd9334a33d355a277482811dc85c7d7825229511ec',
  root: 'faf1417e020ea0dfe731350c3127f2fade92ccd465173915642b7a37cc5220f1',
  guestbook: '0x4f6c18e7d7b3f996f3b397b8e6a543bbbd2594ac1cefd4de299da0b1388fc525',
  /** What the counter stood at. */
  count: 13,
} as const

/** Puts the node's key where a node of this data looks for it. */
export async function writeOldNodeKey(dir: string): Promise<void> {
  await writeFile(path.join(dir, 'node.key'), `${NODE_SEED.toString('base64url')}\n`, { mode: 0o600 })
}

/** Makes the data directory of its files as they were. */
export async function unpackOldData(dir: string): Promise<void> {
  const state = path.join(dir, 'state')
  await mkdir(state, { recursive: true, mode: 0o700 })
  await promisify(execFile)('tar', ['-xzf', path.join(ROOT, 'test', 'vectors', 'state', 'data-1.tar.gz'), '-C', state])
  await writeFile(path.join(state, 'key'), `${LOG_SEED.toString('hex')}\n`, { mode: 0o600 })
  await writeOldNodeKey(dir)
}
