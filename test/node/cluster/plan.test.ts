/** What may be started in which directory, and under which addresses it is found again. */
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { once } from 'node:events'
import { createServer } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { clusterDir, planCluster, savePlan } from '../../../node/cluster/plan.ts'

let dir: string
beforeEach(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-test-plan-')) })
afterEach(async () => { await rm(dir, { recursive: true, force: true }) })

const file = (): string => path.join(clusterDir(dir), 'cluster.json')

describe('a plan', () => {
  test.each([0, 2, 4, 6, 7])('of %i nodes is refused', async nodes => {
    await expect(planCluster({ dir, nodes })).rejects.toMatchObject({
      code: 'CMESH_CONFIG_INVALID',
      message: `The setting --nodes is not valid: it is 1, 3 or 5, not ${nodes}: of an even number no more may fail than of the odd one below it.`,
    })
    expect(await readdir(dir)).toEqual([])
  })

  test.each(['node.key', 'state'])('in the directory of a mesh of one node, known by its %s, is refused and changes nothing', async name => {
    await mkdir(path.join(dir, name))
    await expect(planCluster({ dir, nodes: 3 })).rejects.toMatchObject({
      code: 'CMESH_CLUSTER_DATA',
      message: `The data directory ${dir} does not go with this cluster: it holds a mesh of one node. Start the cluster in another directory (--data), or let that mesh grow as docs/cluster.md says.`,
    })
    expect(await readdir(dir)).toEqual([name])
  })

  test('has three brokers, a port for each node, and is the user\'s alone', async () => {
    const { brokers, http, founded } = await planCluster({ dir, nodes: 5 })
    expect([brokers.length, http.length, founded]).toEqual([3, 5, false])
    const ports = [...brokers.flatMap(({ client, route }) => [client, route]), ...http]
    expect(new Set(ports).size).toBe(11)
    expect((await stat(file())).mode & 0o777).toBe(0o600)
    expect((await stat(clusterDir(dir))).mode & 0o777).toBe(0o700)
  })

  test('shares no port with another one that is made at the same time', async () => {
    const dirs = await Promise.all(Array.from({ length: 20 }, () => mkdtemp(path.join(dir, 'one-'))))
    const plans = await Promise.all(dirs.map(one => planCluster({ dir: one, nodes: 5 })))
    const ports = plans.flatMap(({ brokers, http }) => [...brokers.flatMap(({ client, route }) => [client, route]), ...http])
    expect(new Set(ports).size).toBe(20 * 11)
  })

  test('is the same at the next start', async () => {
    const first = await planCluster({ dir, nodes: 3 })
    await savePlan(dir, { ...first, founded: true })
    expect(await planCluster({ dir, nodes: 3 })).toEqual({ ...first, founded: true })
  })

  test('of more nodes keeps what was there; of fewer it is refused', async () => {
    const first = await planCluster({ dir, nodes: 3 })
    const more = await planCluster({ dir, nodes: 5 })
    expect([more.brokers, more.password, more.http.slice(0, 3)]).toEqual([first.brokers, first.password, first.http])
    await expect(planCluster({ dir, nodes: 3 })).rejects.toMatchObject({
      code: 'CMESH_CLUSTER_DATA',
      message: `The data directory ${dir} does not go with this cluster: it holds a mesh of 5 nodes, which are members until they leave: start it with --nodes 5.`,
    })
  })

  test('takes another port where somebody has the last one', async () => {
    const first = await planCluster({ dir, nodes: 1 })
    const taken = first.brokers[1]?.client ?? 0
    const other = createServer().listen(taken, '127.0.0.1')
    await once(other, 'listening')
    const second = await planCluster({ dir, nodes: 1 })
    other.close()
    expect(second.brokers[1]?.client).not.toBe(taken)
    expect([second.brokers[0], second.brokers[2]]).toEqual([first.brokers[0], first.brokers[2]])
  })

  test('takes the ports that are asked for, and refuses those there are not', async () => {
    const { brokers, http } = await planCluster({ dir, nodes: 3, port: 24_222, httpPort: 28_080 })
    expect([brokers.map(({ client }) => client), http]).toEqual([[24_222, 24_223, 24_224], [28_080, 28_081, 28_082]])
    await expect(planCluster({ dir, nodes: 3, port: 65_534 })).rejects.toMatchObject({
      code: 'CMESH_CONFIG_INVALID', message: 'The setting --port is not valid: 3 ports are needed from there on.',
    })
    await expect(planCluster({ dir, nodes: 5, httpPort: 65_532 })).rejects.toMatchObject({
      code: 'CMESH_CONFIG_INVALID', message: 'The setting --http-port is not valid: 5 ports are needed from there on.',
    })
  })

  test.each(['', '{}', '[]', 'null', '{"v":2}'])('that reads %j is refused', async text => {
    await planCluster({ dir, nodes: 3 })
    await writeFile(file(), text)
    await expect(planCluster({ dir, nodes: 3 })).rejects.toMatchObject({
      code: 'CMESH_CLUSTER_DATA',
      message: `The data directory ${dir} does not go with this cluster: ${file()} is not one that this version wrote; restore it from a copy.`,
    })
    expect(await readFile(file(), 'utf8')).toBe(text)
  })
})
