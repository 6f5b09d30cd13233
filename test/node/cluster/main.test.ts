/** The process of a cluster: what it refuses before it starts anything. */
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'

let dir: string
beforeEach(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-test-cluster-main-')) })
afterEach(async () => { await rm(dir, { recursive: true, force: true }) })

function start(...args: readonly string[]): Promise<{ readonly code: unknown, readonly stderr: string }> {
  return new Promise(resolve => {
    execFile(process.execPath, ['dist/node/cluster/main.js', '--data', dir, '--nodes', '3', ...args], (error, _, stderr) => { resolve({ code: error?.code ?? 0, stderr }) })
  })
}

test.each([
  ['--set', 'state.viewCach=1', 'CMESH_CONFIG_UNKNOWN', 'The setting state.viewCach is not known.'],
  ['--set', 'state.viewCache', 'CMESH_CONFIG_INVALID', 'state.viewCache is not KEY=VALUE'],
  ['--set', 'consensus.reads=', 'CMESH_CONFIG_INVALID', 'The setting consensus.reads is not valid: there is nothing behind the =; leave it out for its default'],
  ['--set', 'router.perSession=many', 'CMESH_CONFIG_INVALID', 'router.perSession'],
  ['--operator', 'me', 'CMESH_CONFIG_INVALID', 'operator'],
  ['--log-level', 'loud', 'CMESH_CONFIG_INVALID', 'log.level'],
])('refuses %s %s before there is a server', async (flag, value, code, says) => {
  const { code: exit, stderr } = await start(flag, value)
  expect(exit).toBe(2)
  expect(stderr).toContain(`error ${code}: `)
  expect(stderr).toContain(says)
  expect(await readdir(dir)).toEqual([])
})
