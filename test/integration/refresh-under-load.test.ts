/** Sessions and logins at the broker that end again and again while a client is at work: it never notices. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { connect, KeyPair, type CMeshError, type MeshClient } from '../../client/index.ts'
import { readAccounts } from '../../cmtp/identity/nats-accounts.ts'
import { connectionsAt } from '../support/broker-connections.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'

const SESSION_MS = 2_000
const LOGIN_MS = 4_000
const room = new NodeRoom()
let node: TestNode

beforeAll(async () => { node = await room.start({ set: { 'iam.sessionTtlMs': SESSION_MS, 'iam.connectionTtlMs': LOGIN_MS } }) })
afterAll(() => room.close())

interface SessionInfo {
  readonly sid: string
  readonly expires: number
}

/** When the broker's connections of that name began, ms since 1970. */
async function linksOf(name: string): Promise<number[]> {
  const accounts = readAccounts(await readFile(path.join(node.dir, 'operator', 'accounts.json'), 'utf8'))
  const connections = await connectionsAt(node.url, accounts)
  return connections.filter((one) => one.name === name).map(({ start }) => Date.parse(start))
}

test('three ends of everything cost nobody a request, not even one that is not tried again', async () => {
  const warnings: CMeshError[] = []
  const onWarning = (warning: CMeshError): void => { warnings.push(warning) }
  const client = await connect({ url: node.url, mesh: node.descriptor.did, identity: KeyPair.generate(), name: 'under-load', retry: false, timeoutMs: 20_000, onWarning })
  try {
    const everybody: MeshClient[] = [client, await client.as(KeyPair.generate()), await client.as(KeyPair.generate())]
    const infos = (): Promise<SessionInfo[]> => Promise.all(everybody.map(async (one) => (await one.call('0xI:session')).json<SessionInfo>()))
    const before = await infos()
    const [bornMs] = await linksOf('under-load') as [number]
    const untilMs = bornMs + 3 * LOGIN_MS
    const failures: unknown[] = []
    let answered = 0
    let now = before
    for (let turn = 0; Date.now() < untilMs + SESSION_MS || now.some(({ expires }) => expires < untilMs); turn++) {
      const asked = everybody.flatMap((one) => [one.call('0xS:0x001:hello_world'), one.call('0xR:nobody.mcom', { throwOnError: false }), one.call('0xI:whoami')])
      for (const result of await Promise.allSettled(asked)) {
        if (result.status === 'rejected') failures.push(result.reason)
        else answered++
      }
      now = await infos()
    }
    expect(failures).toEqual([])
    expect(answered).toBeGreaterThan(100)
    // By renewals, and none by a new handshake.
    expect(now.map(({ sid }) => sid)).toEqual(before.map(({ sid }) => sid))
    for (const born of await linksOf('under-load')) expect(born).toBeGreaterThan(untilMs - LOGIN_MS)
    expect(warnings).toEqual([])
  } finally {
    await client.close()
  }
})
