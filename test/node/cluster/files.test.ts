/** What a cluster keeps on disk: made once, certified by one key, readable by nobody else; and that a server takes the configuration written for hosts. */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { parseCertificate } from '../../../cmtp/identity/certificate.ts'
import { resolveConfig } from '../../../node/config.ts'
import { locateNatsServer } from '../../../node/broker/locate.ts'
import { clusterFiles, type ClusterFiles } from '../../../node/cluster/files.ts'
import { writeForHosts } from '../../../node/cluster/hosts.ts'
import { planCluster } from '../../../node/cluster/plan.ts'

let dir: string
beforeEach(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-test-files-')) })
afterEach(async () => { await rm(dir, { recursive: true, force: true }) })

const inside = (...names: readonly string[]): string => path.join(dir, 'cluster', ...names)
const mode = async (...names: readonly string[]): Promise<number> => (await stat(inside(...names))).mode & 0o777
const addresses = { clients: ['a:1', 'b:2', 'c:3'], routes: ['a:4', 'b:5', 'c:6'], settings: (i: number) => ({ 'http.port': 8_080 + i }) }

async function make(nodes = 3): Promise<ClusterFiles> {
  return await clusterFiles(dir, await planCluster({ dir, nodes }), addresses)
}

describe('the files of a cluster', () => {
  test('certify each node by the mesh\'s key, which is no node\'s', async () => {
    const { mesh, nodes } = await make()
    expect(new Set([mesh, ...nodes.map(({ did }) => did)]).size).toBe(4)
    for (const { name, did } of nodes) expect(parseCertificate(await readFile(inside(name, 'certificate'), 'utf8'))).toMatchObject({ mesh, node: did })
  })

  test('give each node settings that it takes, and secrets to nobody else', async () => {
    const { nodes, urls } = await make()
    for (const [i, { settings, dir: data }] of nodes.entries()) {
      expect(resolveConfig({ file: settings })).toMatchObject({
        'data.dir': data, 'mesh.certificate': path.join(data, 'certificate'), 'bus.url': urls.join(','), 'bus.accounts': inside('operator', 'node.json'),
        'consensus.provider': 'jetstream', 'consensus.replicas': 3, 'events.replicas': 3, 'http.port': 8_080 + i,
      })
    }
    expect(await readFile(inside('operator', 'node.json'), 'utf8')).not.toContain('operatorSeed')
    for (const file of [['mesh', 'mesh.key'], ['operator', 'accounts.json'], ['operator', 'node.json'], ['node-1', 'node.key'], ['node-1', 'settings.json']]) {
      expect([file, await mode(...file)]).toEqual([file, 0o600])
    }
  })

  test('are made once: keys and certificates stay, also those of more nodes', async () => {
    const first = await make()
    const certificate = await readFile(inside('node-2', 'certificate'), 'utf8')
    const second = await make(5)
    expect([second.mesh, second.nodes.slice(0, 3)]).toEqual([first.mesh, first.nodes])
    expect(await readFile(inside('node-2', 'certificate'), 'utf8')).toBe(certificate)
    expect(second.accounts.accounts.CORE.id).toBe(first.accounts.accounts.CORE.id)
  })

  test('do without the mesh\'s key once every node is certified, and make no other in its place', async () => {
    const { mesh } = await make()
    await rename(inside('mesh', 'mesh.key'), inside('elsewhere'))
    expect((await make()).mesh).toBe(mesh)
    await expect(stat(inside('mesh', 'mesh.key'))).rejects.toMatchObject({ code: 'ENOENT' })
    await expect(make(5)).rejects.toMatchObject({
      code: 'CMESH_CLUSTER_DATA',
      message: `The data directory ${dir} does not go with this cluster: node-4 has no certificate, and the mesh's key is not in ${inside('mesh')}: put it there for this start.`,
    })
  })

  test('certify a node anew whose certificate is damaged', async () => {
    const { mesh, nodes } = await make()
    await writeFile(inside('node-3', 'certificate'), 'damaged')
    await make()
    expect(parseCertificate(await readFile(inside('node-3', 'certificate'), 'utf8'))).toMatchObject({ mesh, node: nodes[2]?.did })
  })
})

describe('the files for hosts', () => {
  test('hold a configuration for each server that it takes, and settings that name the hosts', async () => {
    await writeForHosts({ dir, nodes: 3, hosts: ['one', 'two', 'three'] })
    const { path: binary } = await locateNatsServer({ obtain: false })
    for (const [i, host] of ['one', 'two', 'three'].entries()) {
      const { stderr } = await promisify(execFile)(binary, ['-t', '-c', inside(`broker-${i + 1}`, 'nats.conf')])
      expect(stderr).toMatch(/configuration file .* is valid/)
      expect(await readFile(inside(`broker-${i + 1}`, 'nats.conf'), 'utf8')).toContain(`@${host}:6222`)
      expect(await mode(`broker-${i + 1}`, 'nats.conf')).toBe(0o600)
    }
    const config = resolveConfig({ file: inside('node-2', 'settings.json') })
    expect([config['bus.url'], config['http.host'], config['http.port']]).toEqual(['nats://one:4222,nats://two:4222,nats://three:4222', '0.0.0.0', 8_080])
  })

  test.each(['one', 'one,two', 'one,two,two', 'one,two,three,four', 'one,two,-', 'one,two,a b'])('are refused for %j', async hosts => {
    await expect(writeForHosts({ dir, nodes: 3, hosts: hosts.split(',') })).rejects.toMatchObject({
      code: 'CMESH_CONFIG_INVALID', message: 'The setting --hosts is not valid: it is 3 names of hosts, separated by commas.',
    })
  })
})
