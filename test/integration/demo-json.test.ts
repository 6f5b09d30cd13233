import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { CliHome } from '../client/support/cli-process.ts'
import { until } from '../client/support/until.ts'

let home: CliHome
beforeEach(async () => { home = await CliHome.make() })
afterEach(() => home.close())

const leftovers = async (): Promise<string[]> => (await readdir(home.directory)).filter((name) => name.startsWith('cmesh-'))

describe('cmesh demo', () => {
  test('does all of it on a mesh of its own, writes exactly the promised document, prints a report and leaves nothing', async () => {
    const file = join(home.directory, 'demo.json')
    const { code, stdout, stderr } = await home.run(['demo', '--count', '3000', '--json', file])
    expect([code, stderr]).toEqual([0, expect.not.stringContaining('error')])
    const address: unknown = expect.stringMatching(/^0x[0-9a-f]{64}$/)
    const document = JSON.parse(await readFile(file, 'utf8')) as { contract: { address: string } }
    const at = document.contract.address
    expect(document).toEqual({
      spam: {
        requests: 3_000, ok: 3_000, failed: 0, perSecond: expect.any(Number), rawPerSecond: expect.any(Number),
        ratio: expect.any(Number), p50Ms: expect.any(Number), p99Ms: expect.any(Number),
      },
      names: [
        { name: 'helloWorld.mcom', fqmn: '0xS:0x001', status: 200 },
        { name: 'helloWorldExample.mcom', fqmn: '0xS:0x001:hello_world', status: 200 },
        { name: 'helloWorldExample.mcom', fqmn: '0xS:0x001:blah_blah', status: 409 },
        { name: 'google.com', fqmn: '0xR:google.com', status: 404 },
      ],
      contract: {
        address,
        calls: [
          { fqmn: `0xSW:${at}:sign`, status: 200, result: 1 },
          { fqmn: '0xRW:guestbook.mcom:sign', status: 200, result: 2 },
          { fqmn: `0xS:${at}:entry:[1]`, status: 200, result: 'first, by address' },
          { fqmn: '0xR:guestbook.mcom:entry:[2]', status: 200, result: 'second, by name' },
          { fqmn: '0xR:guestbook.mcom:count', status: 200, result: 2 },
          { fqmn: `0xS:${at}:entry:[1]`, status: 200, result: 'first, by address' },
        ],
        survivedRestart: true,
      },
      events: { published: 5, read: 5 },
      durationMs: expect.any(Number),
    })
    for (const what of ['3,000 requests', 'Names', 'Contract guestbook', 'Everything was as expected.']) expect(stdout).toContain(what)
    expect(await leftovers()).toEqual([])
  })

  test('interrupted it ends with 130 and leaves nothing', async () => {
    const run = home.start(['demo'])
    await until('the mesh is up', () => run.stderr.includes('boot a mesh of one node'))
    run.child.kill('SIGINT')
    expect((await run.result).code).toBe(130)
    expect(await leftovers()).toEqual([])
  })

  test('without a broker binary it says the four ways to get one and leaves nothing', async () => {
    const run = home.start(['demo'], { NATS_SERVER_BIN: '/nowhere/nats-server' })
    const { code, stderr } = await run.result
    expect(code).not.toBe(0)
    expect(stderr).toContain('NATS_SERVER_BIN')
    expect(await leftovers()).toEqual([])
  })
})
