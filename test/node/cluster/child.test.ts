/** A node of a cluster as a process: it waits for what an earlier one leaves, and says what it failed with. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, expect, test } from '@jest/globals'
import { DataLock } from '../../../node/data-lock.ts'
import { until } from '../../client/support/until.ts'
import { failureOf } from '../../support/iam.ts'
import { NodeRoom } from '../../support/node-process.ts'
import { ROOT } from '../../support/sources.ts'

// As it was built: it starts the node beside it.
const { NodeChild } = await import(pathToFileURL(path.join(ROOT, 'dist', 'node', 'cluster', 'child.js')).href) as typeof import('../../../node/cluster/child.ts')

const room = new NodeRoom()
const children: InstanceType<typeof NodeChild>[] = []
afterEach(async () => {
  await Promise.all(children.splice(0).map(child => child.stop()))
  await room.close()
})

async function childIn(dir: string, ...args: string[]): Promise<{ readonly child: InstanceType<typeof NodeChild>, readonly log: () => Promise<string> }> {
  const logFile = path.join(await room.dir(), 'log')
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('CMESH_')))
  const child = new NodeChild({ name: 'node-1', args: ['--data', dir, ...args], env, logFile, onNote: () => {} })
  children.push(child)
  return { child, log: () => readFile(logFile, 'utf8').catch(() => '') }
}

test('its directory is waited for while an earlier process leaves it', async () => {
  const dir = await room.dir()
  const held = new DataLock(dir)
  await held.acquire()
  const { child, log } = await childIn(dir)
  const started = child.start()
  await Promise.race([started, until('it was refused the directory', async () => (await log()).includes('error CMESH_BOOT_DATA_IN_USE: '), 20_000)])
  await held.release()
  expect((await started).pid).toBe(child.pid)
})

test('a boot that fails rejects with the code and the detail of what failed, and with the name of the node', async () => {
  const { child } = await childIn(await room.dir(), '--set', 'state.provider=none')
  expect(await failureOf(() => child.start())).toMatchObject({
    code: 'CMESH_CONFIG_PROVIDER', detail: { service: 'state', provider: 'none' },
    message: expect.stringMatching(/^node-1: Boot stopped at step iam: There is no state provider none\./),
  })
})
