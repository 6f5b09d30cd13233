/** A node in surroundings that fail it: each time a coded error that says what to do, and nothing that was acknowledged is lost. */
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFile, readdir, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, describe, expect, test } from '@jest/globals'
import { connect } from '../../client/connect.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { verifyLog } from '../../node/archive/verify.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { startMesh } from '../support/mesh.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'

const INCREMENT = '0xSW:0x002:increment'
const room = new NodeRoom()
const operator = KeyPair.generate()
const undo: (() => Promise<unknown>)[] = []
afterAll(async () => {
  for (const each of undo.reverse()) await each()
  await room.close()
})

/** Writes until a write fails; gives the last value that was acknowledged, and what the failure was. */
async function writeOn(node: TestNode, most = Infinity): Promise<{ readonly acknowledged: number, readonly code: string }> {
  const options = { timeoutMs: 10_000, retry: false, drainMs: 0, onWarning: () => undefined }
  const client = await connect({ url: node.url, mesh: node.descriptor.did, identity: operator, ...options })
  let acknowledged = 0
  try {
    for (let i = 0; i < most; i++) acknowledged = (await client.call(INCREMENT)).json()
    return { acknowledged, code: '' }
  } catch (thrown) {
    return { acknowledged, code: CMeshError.from(thrown, 'the test').code }
  } finally {
    await client.close().catch(() => undefined)
  }
}

describe('a disk that takes no more', () => {
  const hasLimits = spawnSync('prlimit', ['--version']).status === 0
  // Only util-linux can set a limit on a process that runs.
  ;(hasLimits ? test : test.skip)('stops the node by CMESH_STATE_FULL; started again it has every write that was acknowledged', async () => {
    const node = await room.start({ args: ['--operator', operator.did] })
    const before = await writeOn(node, 5)
    expect(before.code).toBe('')
    const db = path.join(node.dir, 'state', 'log', 'db')
    const sizes = await Promise.all((await readdir(db)).filter(name => name.endsWith('.log')).map(async name => (await stat(path.join(db, name))).size))
    // A limit on the size of files stands in for a full disk: the write fails in the same place.
    execFileSync('prlimit', ['--pid', String(node.pid), `--fsize=${Math.max(...sizes) + 20_000}`])
    const { acknowledged, code } = await writeOn(node)
    expect(acknowledged).toBeGreaterThan(before.acknowledged)
    expect(['CMESH_STATE_FULL', 'CMESH_STATE_HALTED', 'CMESH_BUS_DISCONNECTED', 'CMESH_BUS_NO_RESPONDERS']).toContain(code)
    expect(await node.exited).toMatchObject({ code: 1 })
    expect(node.failure).toMatchObject({
      code: 'CMESH_STATE_FULL', message: expect.stringMatching(/^The state log cannot be written: .*File too large.*\. The node stops; free space and start it again\.$/),
    })
    const again = await room.start({ dir: node.dir })
    expect((await writeOn(again, 1)).acknowledged).toBeGreaterThan(acknowledged)
    expect(await again.stop()).toMatchObject({ code: 0 })
    expect((await verifyLog(node.dir, () => {})).epoch).toBe(0)
  })
})

test('a data directory that cannot be written to stops the node before anything else', async () => {
  const dir = await room.dir()
  await writeFile(path.join(dir, 'file'), '')
  for (const at of [path.join(dir, 'file', 'data'), '/sys/cmesh-data', '/proc/cmesh-data']) {
    const node = await room.launch({ dir: at })
    expect(await node.exited).toMatchObject({ code: 1 })
    expect(node.steps).toEqual(['data'])
    expect(node.failure).toMatchObject({
      code: 'CMESH_BOOT_DATA_DIR',
      message: expect.stringMatching(new RegExp(`^Boot stopped at step data: The data directory ${at} cannot be used: E[A-Z]+: .*\\. Give the node a directory `)),
    })
  }
})

test('of two nodes with one key on one broker the second is refused, and the first goes on', async () => {
  const broker = await ExternalBroker.start()
  undo.push(() => broker.stop())
  const set = { 'bus.url': broker.url }
  const first = await room.start({ args: ['--operator', operator.did], set })
  const dir = await room.dir()
  await copyFile(path.join(first.dir, 'node.key'), path.join(dir, 'node.key'))
  const second = await room.launch({ dir, set })
  expect(await second.exited).toMatchObject({ code: 1 })
  expect(second.failure).toMatchObject({ code: 'CMESH_CONSENSUS_SECOND_NODE', message: expect.stringMatching(/^Boot stopped at step \w+: Another node /) })
  expect(await writeOn(first, 3)).toMatchObject({ code: '' })
  expect(await first.health()).toMatchObject({ code: 200, body: { status: 'ok' } })
})

test('a clock that jumps back takes no time off the log, and loses no write', async () => {
  const mesh = await startMesh()
  undo.push(() => mesh.stop())
  const write = (): ReturnType<typeof mesh.ask> => mesh.ask(mesh.root, INCREMENT, { deadlineMs: mesh.time.ms + 10_000 })
  expect(await write()).toMatchObject({ status: 200, value: 1 })
  const { timeMs } = mesh.store.head
  mesh.time.ms -= 60_000
  // A write's deadline is by the clock of the node that proposes it, which goes by none but its own here.
  expect(await write()).toMatchObject({ status: 200, value: 2 })
  expect(await mesh.ask(mesh.root, '0xS:0x002:get')).toMatchObject({ status: 200, value: 2 })
  // Log time never goes back.
  expect(mesh.store.head.timeMs).toBe(timeMs)
  mesh.time.ms += 60_000
  expect(await write()).toMatchObject({ status: 200, value: 3 })
  expect(mesh.halts).toEqual([])
})
