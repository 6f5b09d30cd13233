import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { connect } from '../../../client/connect.ts'
import type { MeshClient } from '../../../client/mesh-client.ts'
import { Histogram } from '../../../client/spam/histogram.ts'
import { LoadResult, runLoad } from '../../../client/spam/load.ts'
import { checkMix, DEFAULT_MIX, readLog } from '../../../client/spam/mix.ts'
import { median } from '../../../client/spam/spam.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { ok, refuse, StandInMesh } from '../support/stand-in-mesh.ts'

describe('the histogram', () => {
  test('a percentile is never too small and at most one 32nd too large', () => {
    const latencies = fc.array(fc.integer({ min: 0, max: 0xffff_ffff }), { minLength: 1, maxLength: 200 })
    fc.assert(fc.property(latencies, fc.double({ min: 0, max: 1, noNaN: true }), (values, share) => {
      const histogram = new Histogram()
      for (const value of values) histogram.add(value)
      const sorted = [...values].sort((a, b) => a - b)
      const exact = sorted[Math.max(1, Math.ceil(values.length * share)) - 1] as number
      const found = histogram.percentileUs(share)
      expect(found).toBeGreaterThanOrEqual(exact)
      expect(found).toBeLessThanOrEqual(exact * (1 + 1 / 32))
    }))
  })

  test('of nothing is 0', () => {
    expect(new Histogram().percentileUs(0.5)).toBe(0)
  })

  test('fractions of a µs are cut off', () => {
    const histogram = new Histogram()
    histogram.add(7.9)
    expect([histogram.percentileUs(1), histogram.maxUs, histogram.total]).toEqual([7, 7, 1])
  })
})

test('a median is the middle value, or the mean of the two', () => {
  expect([median([]), median([3]), median([5, 1, 3]), median([4, 1, 3, 2])]).toEqual([0, 3, 3, 2.5])
})

describe('a mix', () => {
  let dir: string
  beforeAll(async () => { dir = await mkdtemp(join(tmpdir(), 'cmesh-mix-')) })
  afterAll(() => rm(dir, { recursive: true, force: true }))

  test('is checked before it is sent', () => {
    expect(checkMix(DEFAULT_MIX)).toBe(DEFAULT_MIX)
    expect(() => checkMix(['0xS:0x001', '0xS'])).toThrow(expect.objectContaining({ code: 'CMESH_FQMN_SYNTAX' }))
    expect(() => checkMix([])).toThrow('A mix has at least one address.')
  })

  test('is read from a request log, in order; lines that are none are counted', async () => {
    const file = join(dir, 'requests.log')
    await writeFile(file, '1;0xS:0x001:a\n2;0xR:b.mcom:["x;y"]\r\nnoise\n3;0xQ:no\n\n;0xE:news\n4;0xS:0x001:cut')
    expect(await readLog(file)).toEqual({ mix: ['0xS:0x001:a', '0xR:b.mcom:["x;y"]', '0xE:news', '0xS:0x001:cut'], skipped: 2 })
  })

  test('a log without a request is refused', async () => {
    const file = join(dir, 'empty.log')
    await writeFile(file, 'noise\n')
    await expect(readLog(file)).rejects.toMatchObject({ code: 'CMESH_CLIENT_USAGE', message: `The request log ${file} has no line <id>;<FQMN>.` })
  })
})

describe('a load', () => {
  let mesh: StandInMesh
  let client: MeshClient
  beforeAll(async () => { mesh = await StandInMesh.start() })
  afterAll(() => mesh.stop())
  beforeEach(async () => {
    mesh.requests.length = 0
    client = await connect({ url: mesh.url, identity: KeyPair.generate(), throwOnError: false, coalesce: false })
  })
  afterEach(() => client.close())
  const never = new AbortController().signal
  const MIX = ['0xS:0x001:a', '0xS:0x001:b', '0xS:0x001:c']

  test('asks exactly so many, addresses in turn, never more in flight than allowed', async () => {
    let most = 0
    mesh.behaviour = (request) => {
      most = Math.max(most, client.pending)
      ok(request)
    }
    const result = new LoadResult()
    const sent: string[] = []
    const load = { client, mix: MIX, count: 100, from: 1, concurrency: 7, batch: 1, signal: never }
    await runLoad({ ...load, onSent: (_, fqmn) => sent.push(fqmn) }, result)
    expect([result.ok, result.failed, result.hashes, result.latency.total, result.perSecond.length]).toEqual([100, 0, 100, 100, 1])
    expect(most).toBeLessThanOrEqual(7)
    expect(mesh.requests.map(({ frame }) => frame.fqmn)).toEqual(Array.from({ length: 100 }, (_, i) => `0xS:0x001:${'abc'.charAt((i + 1) % 3)}`))
    expect(sent).toHaveLength(100)
  })

  test('counts failures by code, of replies and of requests that got none', async () => {
    mesh.behaviour = (request) => {
      if (request.frame.fqmn.endsWith('a')) refuse(request, new CMeshError('CMESH_STATE_NO_FUNCTION', { contract: '0x001', function: 'a' }))
      else if (request.frame.fqmn.endsWith('b')) request.send(Buffer.from('noise'))
      else ok(request)
    }
    const result = new LoadResult()
    await runLoad({ client, mix: MIX, count: 30, concurrency: 4, batch: 1, signal: never }, result)
    expect([result.ok, result.failed]).toEqual([10, 20])
    expect(Object.fromEntries(result.failures)).toEqual({ CMESH_STATE_NO_FUNCTION: 10, CMESH_CLIENT_REPLY: 10 })
  })

  test('stops soon when it is interrupted', async () => {
    const abort = new AbortController()
    mesh.behaviour = (request) => {
      ok(request)
      if (mesh.requests.length === 20) abort.abort()
    }
    const result = new LoadResult()
    await runLoad({ client, mix: ['0xS:0x001:a'], count: 1_000_000, concurrency: 5, batch: 1, signal: abort.signal }, result)
    expect(result.requests).toBeLessThan(1_000)
  })
})
