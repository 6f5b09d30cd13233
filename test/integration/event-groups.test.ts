/**
 * Groups, dead letters and delayed calls on a real node and broker: through the SDK and the command line, and over kill −9 of the node with its broker.
 */
import { readdir, readFile, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { connect } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import type { FailedEvent, GroupEvent } from '../../client/group.ts'
import type { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { CliHome } from '../client/support/cli-process.ts'
import { until } from '../client/support/until.ts'
import { gather } from '../support/gather.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'

const room = new NodeRoom()
const operator = KeyPair.generate()
const opened: MeshClient[] = []
let dir: string
let node: TestNode
let client: MeshClient
const warnings: CMeshError[] = []
beforeAll(async () => {
  dir = await room.dir()
  node = await room.start({ dir, args: ['--operator', operator.did] })
  client = await open()
})
afterAll(async () => {
  for (const each of opened) await each.close()
  await room.close()
})

async function open(): Promise<MeshClient> {
  const made = await connect({ url: node.url, mesh: node.descriptor.did, identity: operator, onWarning: warning => warnings.push(warning) })
  opened.push(made)
  return made
}

/** A broker that did not write for so long has nothing to write: it puts a change off for 100 ms at most. */
const IDLE_MS = 300

/** When the broker last wrote down the state of a group, ms since 1970; 0 for not yet. */
async function writtenMs(channel: string, group: string): Promise<number> {
  const consumers = (await readdir(join(dir, 'broker'), { recursive: true }))
    .filter(path => /CMESH_EVENTS\/obs\/[^/]+\/meta\.inf$/.test(path))
  for (const path of consumers) {
    const { description = '' } = JSON.parse(await readFile(join(dir, 'broker', path), 'utf8')) as { description?: string }
    if (!description.startsWith(JSON.stringify({ channel, group }).slice(0, -1))) continue
    return (await stat(join(dir, 'broker', path, '..', 'o.dat')).catch(() => undefined))?.mtimeMs ?? 0
  }
  return 0
}

/** Up to where groups have settled their events, as notes say that the broker has on disk. */
async function notedFloors(): Promise<readonly number[]> {
  const blocks = (await readdir(join(dir, 'broker'), { recursive: true })).filter(path => /CMESH_EVENTS_FLOORS\/msgs\/\d+\.blk$/.test(path))
  const notes = await Promise.all(blocks.map(path => readFile(join(dir, 'broker', path), 'latin1')))
  return [...notes.join('').matchAll(/"floor":(\d+)\}/g)].map(([, floor]) => Number(floor))
}

describe('members of a group', () => {
  test('share the events of a channel: each is handled by one of them, and again when its handler throws', async () => {
    const handled: string[] = []
    const handler = (who: string) => (event: GroupEvent): void => {
      if (event.data === '7' && event.attempt === 1) throw new Error('not yet')
      handled.push(`${who} ${String(event.data)}`)
    }
    const options = { from: 'first', backoffMs: 0, concurrency: 4 } as const
    const other = await open()
    const members = await Promise.all([client.group('shared', 'g', handler('a'), options), other.group('shared', 'g', handler('b'), options)])
    for (let i = 0; i < 40; i++) await client.publish('shared', `${i}`)
    await until('all are handled', () => handled.length >= 40)
    await Promise.all(members.map(member => member.close()))
    expect(handled.map(each => Number(each.slice(2))).sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => i))
    expect((await client.groups('shared'))[0]).toMatchObject({ group: 'g', waiting: 0, inHand: 0 })
  })

  test('a member that ends lets others have what it did not begin with', async () => {
    const began: number[] = []
    let release = (): void => undefined
    const held = new Promise<void>(resolve => { release = resolve })
    const member = await client.group('left', 'g', async event => {
      began.push(event.seq)
      await held
    }, { from: 'first', concurrency: 2 })
    for (let i = 0; i < 3; i++) await client.publish('left', `${i}`)
    await until('two are begun with', () => began.length === 2)
    const closing = member.close()
    release()
    await closing
    expect(began).toHaveLength(2)
    expect((await client.groups('left'))[0]).toMatchObject({ waiting: 1, inHand: 0 })
  })

  test('a member hears what became of each event that its handler did not get done', async () => {
    const failed: FailedEvent[] = []
    const member = await client.group('failing', 'g', () => { throw new Error('no room') }, {
      from: 'first', attempts: 2, backoffMs: 20,
      // What it throws is its own, and changes nothing of what became of the event.
      onFailed: each => {
        failed.push(each)
        throw new Error('not listening')
      },
    })
    const { seq } = await client.publish('failing', 'box')
    await until('it has failed twice', () => failed.length === 2)
    await member.close()
    const { letters } = await client.dlq.list()
    const dead = letters.find(letter => letter.kind === 'event' && letter.channel === 'failing')?.id
    const error = { code: 'Error', message: 'no room' }
    expect(failed).toEqual([
      { event: expect.objectContaining({ seq, attempt: 1 }), error, retryMs: 20 },
      { event: expect.objectContaining({ seq, attempt: 2 }), error, dead },
    ])
    expect(warnings.splice(0).map(({ message }) => message)).toEqual(Array.from({ length: 2 }, () => expect.stringContaining('onFailed of a member')))
    const later = await client.group('failing', 'g', () => undefined, { from: 'new', attempts: 9 })
    expect(later.terms).toMatchObject({ from: 'first', attempts: 2, backoffMs: 20, ackWaitMs: 30_000 })
    await later.close()
  })

  test('refuse options that are none', async () => {
    await expect(client.group('shared', 'g', () => undefined, { concurrency: 0 })).rejects.toMatchObject({
      code: 'CMESH_CLIENT_USAGE', message: 'The option concurrency of a group must be an integer from 1 to 64.',
    })
  })
})

describe('the command line', () => {
  let home: CliHome
  beforeAll(async () => { home = await CliHome.make() })
  afterAll(() => home.close())

  test('takes an event, lets it die, shows, replays and drops its letter', async () => {
    const cli = (...args: string[]): Promise<unknown> => home.json(...args, '--url', node.url)
    const { did } = await cli('whoami') as { did: string }
    for (const permission of ['write 0xEW:cli:>', 'write 0xEW:cli', 'write 0xSW:0x000:later', 'write 0xSW:0x000:cancel']) await client.call('0xIW:grant', { body: JSON.stringify({ did, permission }) })
    await cli('login', '--yes')
    await cli('events', 'publish', 'cli', 'poison')
    const taking = home.start(['events', 'take', 'cli', 'g', '--from', 'first', '--attempts', '1', '--exec', 'grep good', '--count', '2', '--url', node.url])
    let id = ''
    await until('there is a letter', async () => {
      const { letters } = await client.dlq.list()
      id = letters.find(letter => letter.kind === 'event' && letter.channel === 'cli')?.id ?? ''
      return id !== ''
    })
    await cli('events', 'publish', 'cli', 'good')
    // What the command printed, then the event that it was done with.
    const taken = await taking.result
    expect([taken.code, taken.stdout]).toEqual([1, expect.stringMatching(/^good\n#\d+ .* good\n$/)])
    expect(taken.stderr).toMatch(new RegExp(`^warning: event #\\d+ of cli failed for good, tried 1 time: the command ended with 1; it is the dead letter ${id}: \`cmesh dlq show\``, 'm'))
    expect(await cli('dlq', 'ls')).toMatchObject({ letters: [{ id, kind: 'event', channel: 'cli', group: 'g', attempts: 1 }], next: null })
    expect(await cli('dlq', 'show', id)).toMatchObject({ id, data: 'poison', error: { code: 'Error', message: 'the command ended with 1' } })
    expect(await cli('dlq', 'replay', id)).toEqual({ id, replayed: true })
    const again = await home.run(['events', 'take', 'cli', 'g', '--count', '1', '--attempts', '3', '--json', '--exec', 'echo said', '--url', node.url])
    expect([again.code, JSON.parse(again.stdout)]).toEqual([0, expect.objectContaining({ data: 'poison', attempt: 1 })])
    expect(again.stderr).toBe('notice: cli had the group g before, and it stays as it was made: --attempts 1\nsaid\n')
    const dropped = await home.run(['dlq', 'drop', id, '--json', '--url', node.url])
    expect([dropped.code, JSON.parse(dropped.stdout)]).toEqual([1, { error: expect.objectContaining({ code: 'CMESH_EVENTS_NO_LETTER', detail: { id } }) }])
    expect((await home.run(['events', 'groups', 'cli', '--url', node.url])).stdout).toMatch(/g .*0 .*0 /)
    const { id: later } = await cli('call', '0xEW:cli', '--body', 'x', '--in', '3600000') as { id: string }
    expect(await cli('later', 'ls')).toEqual([{ id: later, did, fqmn: '0xEW:cli', atMs: expect.any(Number) }])
    expect(await cli('later', 'cancel', later)).toEqual({ id: later, cancelled: true })
    expect(await home.run(['later', 'cancel', later, '--url', node.url])).toEqual({
      code: 1, stdout: '', stderr: `error CMESH_STATE_LATER: The delayed call ${later} is refused: none of yours waits by this id; it was made or cancelled before, or is somebody else's.\n`,
    })
    expect(await cli('events', 'remove-group', 'cli', 'g')).toEqual({ channel: 'cli', group: 'g' })
    expect(await home.run(['events', 'remove-group', 'cli', 'g', '--url', node.url])).toEqual({
      code: 1, stdout: '', stderr: 'error CMESH_EVENTS_NO_GROUP: The channel cli has no group g; who opens it makes one.\n',
    })
  })

  test('settles the letters that are there, and ends with 1 where one is not', async () => {
    await client.call('0xEW:letters:g:open', { body: JSON.stringify({ from: 'first', attempts: 1 }) })
    await client.publish('letters', 'x')
    const [taken] = (await client.call('0xEW:letters:g:pull', { body: JSON.stringify({ waitMs: 1_000 }) })).json<readonly { token: string }[]>()
    const { dead } = (await client.call('0xEW:letters:g:nack', { body: JSON.stringify({ token: taken?.token }) })).json<{ dead: string }>()
    const { did } = await home.json('whoami', '--url', node.url) as { did: string }
    for (const permission of ['read 0xE:letters:range', 'write 0xEW:letters:g:*']) await client.call('0xIW:grant', { body: JSON.stringify({ did, permission }) })
    await home.json('login', '--yes', '--url', node.url)
    expect(await home.run(['dlq', 'drop', 'nope', dead, '--url', node.url])).toEqual({
      code: 1, stdout: `${dead} dropped\n`, stderr: 'error CMESH_EVENTS_NO_LETTER: There is no dead letter nope that you may see.\n',
    })
  })
})

describe('kill −9 of the node with its broker', () => {
  test('loses no position, no event in hand, no count of attempts, no letter and no delayed call, which is made once', async () => {
    const ask = async <T>(fqmn: string, body: object): Promise<T> => (await client.call(fqmn, { body: JSON.stringify(body) })).json<T>()
    type Taken = readonly { readonly data: string, readonly attempt: number, readonly token: string }[]
    await ask('0xEW:killed:g:open', { from: 'first', ackWaitMs: 60_000, backoffMs: 0, attempts: 3 })
    await ask('0xEW:killed:dead:open', { from: 'first', attempts: 1 })
    for (const data of ['done', 'held']) await client.publish('killed', data)
    const [done, held] = await gather(2, max => ask<Taken>('0xEW:killed:g:pull', { max, waitMs: 1_000 }))
    await ask('0xEW:killed:g:ack', { tokens: [done?.token] })
    // The broker writes down who has what a little later: kept busy, it has done so once the file is newer than the ack.
    const ackedMs = Date.now()
    await until('the broker wrote it down', async () => {
      await client.publish('killed', 'filler')
      const [filler] = await ask<Taken>('0xEW:killed:g:pull', { waitMs: 1_000 })
      await ask('0xEW:killed:g:ack', { tokens: [filler?.token] })
      return await writtenMs('killed', 'g') > ackedMs
    })
    // It empties the file and fills it again: killed between the two it forgets who has what (the test below).
    await until('the broker has nothing more to write down', async () => Date.now() - await writtenMs('killed', 'g') > IDLE_MS)
    await client.publish('killed', 'next')
    const [dying] = await ask<Taken>('0xEW:killed:dead:pull', {})
    const counter = async (): Promise<number> => (await client.call('0xS:0x002:get')).json<number>()
    const before = await counter()
    await client.later.call('0xSW:0x002:increment', { inMs: 1_000 })
    const { id: far } = await client.later.call('0xSW:0x002:increment', { inMs: 3_600_000 })
    const { dead } = await ask<{ dead: string }>('0xEW:killed:dead:nack', { token: dying?.token, error: { code: 'E', message: 'no' } })

    await node.kill()
    node = await room.start({ dir, args: ['--operator', operator.did] })
    client = await open()
    // The token of before is good: it is the broker that knows who has what.
    expect(await ask('0xEW:killed:g:nack', { token: held?.token })).toEqual({ retryMs: 0 })
    const taken: { readonly data: string, readonly attempt: number }[] = []
    await until('both are taken', async () => {
      taken.push(...(await ask<Taken>('0xEW:killed:g:pull', { max: 5, waitMs: 500 })).filter(({ data }) => data !== 'filler'))
      return taken.length >= 2
    })
    expect(taken.map(({ data, attempt }) => `${data} ${attempt}`).sort()).toEqual(['held 2', 'next 1'])
    expect(await client.dlq.show(dead)).toMatchObject({ data: 'done', attempts: 1, error: { code: 'E', message: 'no' } })
    expect(await client.dlq.replay(dead)).toBe(true)

    await until('the call that was due is made', async () => (await client.later.list()).length === 1)
    // The other one is that of the self-test at boot.
    expect(await counter()).toBe(before + 2)
    expect([await client.later.cancel(far), await client.later.cancel(far)]).toEqual([true, false])
    expect(await client.later.list()).toEqual([])
  })

  test('loses no position where the broker had emptied the file that it stands in', async () => {
    const ask = async <T>(fqmn: string, body: object): Promise<T> => (await client.call(fqmn, { body: JSON.stringify(body) })).json<T>()
    type Taken = readonly { readonly seq: number, readonly data: string, readonly token: string }[]
    await client.publish('emptied', 'before')
    await ask('0xEW:emptied:g:open', { ackWaitMs: 60_000 })
    await ask('0xEW:emptied:idle:open', {})
    for (let i = 0; i < 4; i++) await client.publish('emptied', `${i}`)
    const taken = await gather(3, max => ask<Taken>('0xEW:emptied:g:pull', { max, waitMs: 1_000 }))
    await ask('0xEW:emptied:g:ack', { tokens: taken.slice(0, 2).map(({ token }) => token) })
    const [, second, third] = taken.map(({ seq }) => seq)
    await until('it is noted', async () => (await notedFloors()).some(floor => floor >= Number(second) && floor < Number(third)))

    await node.kill()
    const states = (await readdir(join(dir, 'broker'), { recursive: true })).filter(path => /\/obs\/[^/]+\/o\.dat$/.test(path))
    for (const path of states) await truncate(join(dir, 'broker', path))
    node = await room.start({ dir, args: ['--operator', operator.did] })
    client = await open()
    const again = async (group: string, count: number): Promise<string[]> =>
      (await gather(count, () => ask<Taken>(`0xEW:emptied:${group}:pull`, { max: 10, waitMs: 1_000 }))).map(({ data }) => data)
    expect(await again('g', 2)).toEqual(['2', '3'])
    expect(await again('idle', 4)).toEqual(['0', '1', '2', '3'])
  })
})
