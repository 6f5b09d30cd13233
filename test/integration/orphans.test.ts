/** Processes of a mesh whose parent is gone before they have loaded: nobody would ever stop them, so they end by themselves. */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { until } from '../client/support/until.ts'
import { isAlive } from '../support/node-process.ts'
import { ROOT } from '../support/sources.ts'

/** Starts what it is told over a channel, says its process id, and ends before it can have loaded. */
const PARENT = `
  const [entry, ...args] = process.argv.slice(1)
  const child = require('node:child_process').fork(entry, args, { stdio: ['ignore', 'ignore', 'ignore', 'ipc'], detached: true })
  process.stdout.write(String(child.pid), () => process.exit(0))`

let home: string
beforeEach(async () => { home = await mkdtemp(path.join(os.tmpdir(), 'cmesh-orphan-')) })
afterEach(() => rm(home, { recursive: true, force: true }))

test.each([
  ['a node', 'dist/node/main.js', []],
  ['a cluster', 'dist/node/cluster/main.js', ['--nodes', '3']],
])('%s ends, and has begun nothing', async (_, entry, args) => {
  const dir = path.join(home, 'data')
  const pid = Number(execFileSync(process.execPath, ['-e', PARENT, path.join(ROOT, entry), '--data', dir, ...args], { encoding: 'utf8' }))
  try {
    await until('it is gone', () => !isAlive(pid), 40_000)
    expect(existsSync(dir)).toBe(false)
  } finally {
    if (isAlive(pid)) process.kill(pid, 'SIGKILL')
  }
})
