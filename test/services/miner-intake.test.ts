import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../cmtp/errors.ts'
import { MINE_WILDCARD, mineSubject } from '../../cmtp/subject.ts'
import { MineIntake, type MineIntakeParts } from '../../services/miner/intake.ts'
import { HandBus } from '../support/hand-bus.ts'
import { keptLog } from '../support/mesh.ts'

const RECEIPT = Buffer.from('{"stream":"CMESH_MINE","seq":1}')

function intake(parts: Partial<MineIntakeParts> = {}): { intake: MineIntake, mesh: HandBus, core: HandBus, leave(sid: string, reply?: string): void } {
  const [mesh, core] = [new HandBus(), new HandBus()]
  core.onRequest = async () => RECEIPT
  const made = new MineIntake({ mesh, core, log: keptLog(), ...parts })
  const leave = (sid: string, reply = `_INBOX.${sid}.1`): void => { mesh.bring(MINE_WILDCARD, { subject: mineSubject(sid), reply, data: Buffer.from(`of ${sid}`) }) }
  return { intake: made, mesh, core, leave }
}

const said = (bus: HandBus): unknown[] => bus.published.map(({ subject, data }) => [subject, JSON.parse(Buffer.from(data).toString()) as unknown])

describe('the way of requests to be mined', () => {
  test('is from the sessions\' account to the services\', under the session they came from, and the receipt comes back', async () => {
    const { intake: made, mesh, core, leave } = intake()
    await Promise.all([made.start(), made.start()])
    expect(mesh.subscriptions.map(({ subject, queue }) => [subject, queue])).toEqual([['cmesh.v1.mine.*', 'miner']])
    leave('s1')
    leave('s2', '')
    await made.drain()
    expect(core.requests.map(({ subject, data }) => [subject, Buffer.from(data).toString()])).toEqual([['cmesh.v1.mine.s1', 'of s1'], ['cmesh.v1.mine.s2', 'of s2']])
    expect(mesh.published).toEqual([{ subject: '_INBOX.s1.1', data: RECEIPT }])
    expect([made.dropped, mesh.subscriptions[0]?.open]).toEqual([0, false])
  })

  test.each(['_INBOX.>', '_INBOX.*.>', '_INBOX.s2.1', '_INBOX.s1', '_INBOX.s1.', 'cmesh.v1.mine.s1', 'cmesh.v1.req.s2', '$JS.API.STREAM.DELETE.CMESH_MINE', '>'])(
    'is closed to who wants the receipt at "%s"', async reply => {
      const { intake: made, mesh, core, leave } = intake()
      await made.start()
      leave('s1', reply)
      await made.drain()
      expect([core.requests, mesh.published, made.dropped]).toEqual([[], [], 1])
    })

  test('takes so much of one session at once, so much of all, and refuses what is beyond it without keeping it', async () => {
    const { intake: made, mesh, core, leave } = intake({ perSession: 2, inAll: 3 })
    const release: (() => void)[] = []
    core.onRequest = () => new Promise(resolve => { release.push(() => { resolve(RECEIPT) }) })
    await made.start()
    for (const sid of ['s1', 's1', 's1', 's2', 's3']) leave(sid)
    expect(core.requests).toHaveLength(3)
    expect(said(mesh)).toEqual([
      ['_INBOX.s1.1', { error: { code: 429, description: 'This session has 2 requests in flight already; try again in 50 ms.' } }],
      ['_INBOX.s3.1', { error: { code: 429, description: 'The miner has 3 requests in flight already; try again in 50 ms.' } }],
    ])
    for (const each of release.splice(0)) each()
    while (mesh.published.length < 5) await Promise.resolve()
    for (const sid of ['s1', 's3']) leave(sid)
    expect(core.requests).toHaveLength(5)
    let drained = false
    const draining = made.drain().then(() => { drained = true })
    for (let i = 0; i < 20; i++) await Promise.resolve()
    expect(drained).toBe(false)
    for (const each of release) each()
    await draining
    expect(mesh.published).toHaveLength(7)
  })

  test('says so where there is no stream, and when it did not answer', async () => {
    const { intake: made, mesh, core, leave } = intake()
    await made.start()
    core.onRequest = () => Promise.reject(new CMeshError('CMESH_BUS_NO_RESPONDERS', { subject: 'x' }))
    leave('s1')
    await made.drain()
    expect(said(mesh)).toEqual([['_INBOX.s1.1', { error: { code: 503, description: expect.stringContaining('x') } }]])
  })
})
