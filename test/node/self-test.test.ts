import { expect, test } from '@jest/globals'
import { CMeshError } from '../../cmtp/errors.ts'
import { encodeReply } from '../../cmtp/frame.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { OwnSession } from '../../node/own-session.ts'
import { selfTest } from '../../node/self-test.ts'
import { errorReply } from '../../services/call.ts'
import { startIam } from '../support/iam.ts'
import { LoneBus } from '../support/lone-bus.ts'

test('asks again while members are not there, or the broker elects a leader, says so once, and asks after no other failure twice', async () => {
  const { iam, clock, mesh } = await startIam()
  const identity = KeyPair.generate()
  const keys = { verifierOf: () => mesh.publicKey }
  const session = new OwnSession({ iam, identity, mesh: mesh.did, want: ['read 0xS:>'], now: () => clock.ms, keys })
  const unchecked = new CMeshError('CMESH_CONSENSUS_UNCHECKED', { fqmn: '0xS:0x001:hello_world', count: 1, quorum: 2, members: 3 })
  const unknown = new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx: 'a' })
  const answers = [unchecked, unknown, new CMeshError('CMESH_STATE_HALTED', { reason: 'a test' }), unchecked]
  const warned: object[] = []
  const log = { warn: (fields: object) => { warned.push(fields) } }
  const frontDoor = {
    route: async () => encodeReply({ id: Buffer.alloc(16), receipt: 'hash', finalHash: '0'.repeat(32), layers: Buffer.alloc(0), ...errorReply(answers.shift() as CMeshError) }),
  }
  const parts = { frontDoor, session, identity, mesh: new LoneBus(), eventsOut: async () => undefined, eventsWaiting: () => 0, patienceMs: 60_000, log }
  await expect(selfTest(parts)).rejects.toMatchObject({
    code: 'CMESH_BOOT_FAILED', detail: { step: 'self-test of state', reason: expect.stringContaining('0xS:0x001 gave 503 and not 200: {"code":"CMESH_STATE_HALTED"') },
  })
  expect(answers).toHaveLength(1)
  expect(warned).toEqual([{ fqmn: '0xS:0x001', code: 'CMESH_CONSENSUS_UNCHECKED', forMs: 60_000 }])
  await iam.stop()
})

test('asks again for as long as events of before get out, and gives up once none does', async () => {
  const { iam, clock, mesh } = await startIam()
  const session = new OwnSession({ iam, identity: KeyPair.generate(), mesh: mesh.did, want: ['read 0xS:>'], now: () => clock.ms, keys: { verifierOf: () => mesh.publicKey } })
  const busy = errorReply(new CMeshError('CMESH_ROUTER_BUSY', { what: 'the outbox of events', limit: 4_096, retryAfterMs: 100 }))
  let asked = 0
  const frontDoor = {
    route: async () => {
      asked++
      return encodeReply({ id: Buffer.alloc(16), receipt: 'hash', finalHash: '0'.repeat(32), layers: Buffer.alloc(0), ...busy })
    },
  }
  const waiting = [9_000, 6_000, 5_000, 5_000]
  const parts = {
    frontDoor, session, identity: KeyPair.generate(), mesh: new LoneBus(), eventsOut: async () => undefined, eventsWaiting: () => waiting.shift() ?? 0,
    patienceMs: 100, log: { warn: () => undefined },
  }
  await expect(selfTest(parts)).rejects.toMatchObject({ code: 'CMESH_BOOT_FAILED', detail: { reason: expect.stringContaining('CMESH_ROUTER_BUSY') } })
  expect([asked, waiting]).toEqual([4, []])
  await iam.stop()
})
