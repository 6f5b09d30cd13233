import { spawn, execFileSync } from 'node:child_process'
import {
  appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync,
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import v8 from 'node:v8'
import vm from 'node:vm'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { CMeshError } from '../../cmtp/errors.ts'
import { LogfileSource, type LogfileSourceOptions, type LogfileSourceParts } from '../../providers/miner/logfile.ts'
import { Tail } from '../../providers/miner/tail.ts'
import type { MinerHandler, MinerOutcome } from '../../services/miner/provider.ts'

const FQMN = '0xS:0x001:blah_blah'
const line = (id: string | number): string => `${id};${FQMN}\n`
const lines = (from: number, to: number): string => Array.from({ length: to - from + 1 }, (_, i) => line(from + i)).join('')
const ids = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, i) => String(from + i))
const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

let dir: string
let file: string
let sources: LogfileSource[]

beforeEach(() => {
  dir = mkdtempSync(path.join(os.tmpdir(), 'cmesh-test-logfile-'))
  mkdirSync(path.join(dir, 'logs'))
  file = path.join(dir, 'logs', 'requests.log')
  sources = []
})
afterEach(async () => {
  await Promise.all(sources.map(source => source.stop()))
  rmSync(dir, { recursive: true, force: true })
})

type Follower = LogfileSource & { readonly failures: CMeshError[], tick(): void }

/** A source that looks at its file when `tick` is called, or all the time when it may watch. */
function follow(options: Partial<LogfileSourceOptions> = {}, parts: Partial<LogfileSourceParts> = {}): Follower {
  const failures: CMeshError[] = []
  const callbacks: (() => void)[] = []
  const source = new LogfileSource({
    onFailure: failure => failures.push(failure),
    watch: false,
    every: (_ms, callback) => {
      callbacks.push(callback)
      return () => { callbacks.splice(callbacks.indexOf(callback), 1) }
    },
    ...parts,
  }, { path: file, dataDir: dir, rotateWaitMs: 0, retryDelayMs: 1, ...options })
  sources.push(source)
  return Object.assign(source, { failures, tick: () => { for (const callback of [...callbacks]) callback() } })
}

/** What a handler was given, in order; `until(n)` resolves when it was called n times. */
function recorder(answer: (id: string, call: number) => MinerOutcome | Promise<MinerOutcome> = () => 'done'): {
  handler: MinerHandler, seen: string[], until(count: number): Promise<void>
} {
  const seen: string[] = []
  const waiting: { count: number, resolve: () => void }[] = []
  return {
    seen,
    until: count => new Promise(resolve => {
      if (seen.length >= count) resolve()
      else waiting.push({ count, resolve })
    }),
    handler: async entry => {
      seen.push(entry.id)
      for (const { count, resolve } of waiting) if (seen.length >= count) resolve()
      return answer(entry.id, seen.filter(id => id === entry.id).length)
    },
  }
}

/** Lets the source look at its file until the condition holds. */
async function lookUntil(source: Follower, holds: () => boolean): Promise<void> {
  while (!holds()) {
    source.tick()
    await turn()
  }
}

describe('following a log file', () => {
  test('hands over what is there and what is appended, with its id and address', async () => {
    writeFileSync(file, 'a;0xS:0x001:hello_world:["Dexter"]\n')
    const source = follow()
    const entries: unknown[] = []
    const { handler, until } = recorder()
    await source.start(entry => {
      entries.push(entry)
      return handler(entry)
    })
    await until(1)
    appendFileSync(file, 'b;0xR:helloWorldExample.mcom\n')
    source.tick()
    await until(2)
    expect(entries).toEqual([
      { id: 'a', fqmn: '0xS:0x001:hello_world:["Dexter"]' }, { id: 'b', fqmn: '0xR:helloWorldExample.mcom' },
    ])
  })

  test('is told of changes by the system, and of a file that appears', async () => {
    // No poll at all: what is seen, the system told.
    const source = follow({}, { watch: true })
    const { handler, seen, until } = recorder()
    await source.start(handler)
    writeFileSync(file, line(1))
    await until(1)
    appendFileSync(file, line(2))
    await until(2)
    expect(seen).toEqual(['1', '2'])
  })

  test('waits for a directory that does not exist yet', async () => {
    rmSync(path.dirname(file), { recursive: true })
    const source = follow({}, { watch: true })
    const { handler, until } = recorder()
    await source.start(handler)
    mkdirSync(path.dirname(file))
    writeFileSync(file, line(1))
    source.tick()
    await Promise.all([until(1), lookUntil(source, () => source.stats().done === 1)])
    expect(source.stats()).toMatchObject({ done: 1, garbage: 0, lag: 0, reports: [] })
  })

  test('takes LF and CRLF, and passes over empty lines and comments', async () => {
    writeFileSync(file, `# comment\r\n\r\n1;${FQMN}\r\n\n2;${FQMN}\n`)
    const source = follow()
    const { handler, seen, until } = recorder()
    await source.start(handler)
    await until(2)
    expect(seen).toEqual(['1', '2'])
    expect(source.stats().garbage).toBe(0)
  })

  test('keeps a line that has not ended until its end comes, even byte by byte', async () => {
    const source = follow()
    const { handler, seen, until } = recorder()
    await source.start(handler)
    for (const byte of line(1).slice(0, -1)) {
      appendFileSync(file, byte)
      source.tick()
      await turn()
    }
    appendFileSync(file, `\n${line(2)}`)
    source.tick()
    await until(2)
    expect(seen).toEqual(['1', '2'])
    expect(source.stats().garbage).toBe(0)
  })

  test('gives the same entries whatever pieces the file is written in', async () => {
    const pieces = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 20 })
    const text = `${lines(1, 10)}noise\n\r\n# é\n${lines(11, 20)}`
    let run = 0
    await fc.assert(fc.asyncProperty(pieces, async sizes => {
      const source = follow({ path: path.join(dir, 'logs', `${run}.log`), dataDir: path.join(dir, `${run}`) })
      const written = path.join(dir, 'logs', `${run++}.log`)
      const { handler, seen, until } = recorder()
      await source.start(handler)
      const bytes = Buffer.from(text)
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = sizes[i % sizes.length] ?? 1
        appendFileSync(written, bytes.subarray(at, at + size))
        source.tick()
        await turn()
        at += size
      }
      const waiting = until(20)
      await lookUntil(source, () => seen.length >= 20)
      await waiting
      expect(seen).toEqual(ids(1, 20))
      expect(source.stats().garbage).toBe(1)
      await source.stop()
    }), { numRuns: 25 })
  })

  test('counts and reports what is no entry, with its place and reason, and goes on', async () => {
    writeFileSync(file, Buffer.concat([
      Buffer.from(`no semicolon\n${line(1)}`), Buffer.from([0xff, 0xfe, 0x0a]), Buffer.from(`;${FQMN}\n2;0xQ:what\n${line(3)}`),
    ]))
    const source = follow()
    const { handler, seen, until } = recorder()
    await source.start(handler)
    await until(2)
    expect(seen).toEqual(['1', '3'])
    expect(source.stats()).toMatchObject({
      garbage: 4,
      reports: [
        { place: `byte 0 of ${file}`, reason: 'there is no semicolon between an id and an FQMN' },
        { place: `byte 35 of ${file}`, reason: 'the line is not UTF-8' },
        { place: `byte 38 of ${file}`, reason: 'the id is not 1 to 63 printable characters without spaces' },
        { place: `byte 59 of ${file}`, reason: expect.stringMatching(/^The FQMN has an unknown opcode at byte 2/) },
      ],
    })
    // Told of once, not line by line.
    expect(source.failures.map(failure => [failure.code, failure.message])).toEqual([[
      'CMESH_MINER_ENTRY', `The entry byte 0 of ${file} of the log file is not valid: there is no semicolon between an id and an FQMN.`,
    ]])
  })

  test('keeps a bounded number of reports, and says later how many it did not tell of', async () => {
    let now = 0
    const source = follow({}, { now: () => now })
    const { handler, until } = recorder()
    await source.start(handler)
    writeFileSync(file, `${'x\n'.repeat(1_000)}${line(1)}`)
    await Promise.all([until(1), lookUntil(source, () => source.stats().done === 1)])
    now = 10_000
    appendFileSync(file, `x\n${line(2)}`)
    await Promise.all([until(2), lookUntil(source, () => source.stats().done === 2)])
    const { garbage, reports } = source.stats()
    expect([garbage, reports.length]).toEqual([1_001, 32])
    expect(source.failures.map(failure => failure.detail.reason)).toEqual([
      'there is no semicolon between an id and an FQMN',
      'there is no semicolon between an id and an FQMN (and 999 more since the last report)',
    ])
  })

  test('skips a line of many megabytes without holding it', async () => {
    const source = follow()
    const { handler, seen, until } = recorder()
    await source.start(handler)
    v8.setFlagsFromString('--expose-gc')
    const gc = vm.runInNewContext('gc') as () => void
    const piece = Buffer.alloc(1024 * 1024, 'x')
    for (let i = 0; i < 64; i++) appendFileSync(file, piece)
    appendFileSync(file, `\n${line(1)}`)
    gc()
    const before = process.memoryUsage().arrayBuffers
    // Looked at all the way, and what waits for the collector does not count.
    let [most, looks] = [0, 0]
    await Promise.all([until(1), lookUntil(source, () => {
      if (looks++ % 2_048 === 0) {
        gc()
        most = Math.max(most, process.memoryUsage().arrayBuffers - before)
      }
      return seen.length === 1
    })])
    expect(most).toBeLessThan(32 * 1024 * 1024)
    expect(source.stats()).toMatchObject({
      garbage: 1, reports: [{ place: `byte 0 of ${file}`, reason: 'the line is longer than 4160 bytes' }],
    })
    expect(source.stats().lag).toBe(0)
  })

  test('reports a path that is no regular file, does not wait on it, and goes on when it is one', async () => {
    execFileSync('mkfifo', [file])
    const source = follow()
    const { handler, until } = recorder()
    await source.start(handler)
    await lookUntil(source, () => source.stats().reports.length > 0)
    expect(source.stats().reports[0]).toEqual({
      place: file, reason: `it cannot be read: The entry ${file} of the log file is not valid: it is no regular file.`,
    })
    rmSync(file)
    writeFileSync(file, line(1))
    source.tick()
    await until(1)
    expect(source.stats().garbage).toBe(0)
  })
})

describe('when the log file is rotated', () => {
  test('the old file is read to its end first, then the new one from its beginning', async () => {
    writeFileSync(file, lines(1, 3))
    const source = follow()
    const { handler, seen, until } = recorder()
    await source.start(handler)
    await until(3)
    appendFileSync(file, lines(4, 6))
    renameSync(file, `${file}.1`)
    writeFileSync(file, lines(7, 9))
    await Promise.all([until(9), lookUntil(source, () => seen.length === 9)])
    expect(seen).toEqual(ids(1, 9))
  })

  test('the old file must have been quiet for long enough, since its writer may hold it a while longer', async () => {
    let now = 0
    const tail = new Tail({ path: file, rotateWaitMs: 100, now: () => now })
    const steps: string[] = []
    const readOn = async (): Promise<void> => {
      for (;;) {
        const step = await tail.read()
        steps.push(step.kind === 'bytes' ? Buffer.from(step.bytes).toString() : step.kind === 'begin' ? step.because : 'end')
        if (step.kind === 'end') return
      }
    }
    writeFileSync(file, 'a')
    await readOn()
    renameSync(file, `${file}.1`)
    writeFileSync(file, 'new')
    await readOn()
    now = 99
    appendFileSync(`${file}.1`, 'b')
    await readOn()
    now = 198
    await readOn()
    now = 199
    await readOn()
    await tail.close()
    expect(steps).toEqual(['opened', 'a', 'end', 'end', 'b', 'end', 'end', 'rotated', 'new', 'end'])
  })

  test('the old file is followed on while there is no new one', async () => {
    writeFileSync(file, line(1))
    const source = follow()
    const { handler, seen, until } = recorder()
    await source.start(handler)
    await until(1)
    renameSync(file, `${file}.1`)
    appendFileSync(`${file}.1`, line(2))
    await Promise.all([until(2), lookUntil(source, () => seen.length === 2)])
    writeFileSync(file, line(3))
    await Promise.all([until(3), lookUntil(source, () => seen.length === 3)])
    expect(seen).toEqual(ids(1, 3))
  })

  test('half a line at the end of the old file is garbage, not the beginning of the new file', async () => {
    writeFileSync(file, `${line(1)}2;0xS:0x001:bl`)
    const source = follow()
    const { handler, seen, until } = recorder()
    await source.start(handler)
    await until(1)
    renameSync(file, `${file}.1`)
    writeFileSync(file, `ah\n${line(3)}`)
    await Promise.all([until(2), lookUntil(source, () => seen.length === 2)])
    expect(seen).toEqual(['1', '3'])
    expect(source.stats().reports).toEqual([
      { place: `byte 22 of ${file}`, reason: 'the line does not end, and the file was rotated' },
      { place: `byte 0 of ${file}`, reason: 'there is no semicolon between an id and an FQMN' },
    ])
  })

  test('a file truncated in place is read from its beginning', async () => {
    writeFileSync(file, lines(1, 5))
    const source = follow()
    const { handler, seen, until } = recorder()
    await source.start(handler)
    await until(5)
    truncateSync(file)
    appendFileSync(file, lines(6, 7))
    await Promise.all([until(7), lookUntil(source, () => seen.length === 7)])
    expect(seen).toEqual(ids(1, 7))
  })

  test('a file truncated and written past the old position between two looks is read from its beginning', async () => {
    const tail = new Tail({ path: file, rotateWaitMs: 0, now: () => 0 })
    writeFileSync(file, lines(1, 3))
    expect(await tail.read()).toMatchObject({ kind: 'begin', because: 'opened', offset: 0 })
    expect(await tail.read()).toMatchObject({ kind: 'bytes' })
    expect(await tail.read()).toEqual({ kind: 'end' })
    truncateSync(file)
    appendFileSync(file, lines(4, 9))
    expect(await tail.read()).toMatchObject({ kind: 'begin', because: 'truncated', offset: 0 })
    const step = await tail.read()
    expect(step.kind === 'bytes' && Buffer.from(step.bytes).toString()).toBe(lines(4, 9))
    await tail.close()
  })

  test('a file cut short is read from its beginning, even when the beginning stayed', async () => {
    const tail = new Tail({ path: file, rotateWaitMs: 0, now: () => 0 })
    writeFileSync(file, Buffer.alloc(3_000, 'x'))
    for (const kind of ['begin', 'bytes', 'end']) expect(await tail.read()).toMatchObject({ kind })
    truncateSync(file, 2_000)
    expect(await tail.read()).toMatchObject({ kind: 'begin', because: 'truncated', offset: 0 })
    expect(await tail.read()).toMatchObject({ kind: 'bytes', bytes: { length: 2_000 } })
    await tail.close()
  })
})

describe('resuming', () => {
  test('goes on where it stopped: nothing lost, nothing twice', async () => {
    writeFileSync(file, lines(1, 100))
    const first = follow()
    const one = recorder()
    await first.start(one.handler)
    await one.until(100)
    await first.stop()
    appendFileSync(file, lines(101, 110))
    const two = recorder()
    await follow().start(two.handler)
    await two.until(10)
    expect(two.seen).toEqual(ids(101, 110))
  })

  test('goes on in the midst of a line', async () => {
    writeFileSync(file, `${line(1)}2;0xS:0x0`)
    const first = follow()
    const one = recorder()
    await first.start(one.handler)
    await one.until(1)
    await first.stop()
    appendFileSync(file, '01:blah_blah\n')
    const two = recorder()
    await follow().start(two.handler)
    await two.until(1)
    expect(two.seen).toEqual(['2'])
  })

  test('reads a file that was rotated meanwhile to its end before the new one', async () => {
    writeFileSync(file, lines(1, 3))
    const first = follow()
    const one = recorder()
    await first.start(one.handler)
    await one.until(3)
    await first.stop()
    appendFileSync(file, lines(4, 5))
    renameSync(file, path.join(path.dirname(file), 'requests-2026-01-01'))
    writeFileSync(file, lines(6, 7))
    const second = follow()
    const two = recorder()
    await second.start(two.handler)
    await Promise.all([two.until(4), lookUntil(second, () => two.seen.length === 4)])
    expect(two.seen).toEqual(ids(4, 7))
  })

  test.each([
    ['shorter than the position', lines(8, 8)],
    ['longer than the position', lines(111, 220)],
    ['shorter but with the same beginning', lines(1, 80)],
  ])('another file under the same number, %s, is read from its beginning', async (_how, text) => {
    writeFileSync(file, lines(1, 100))
    const first = follow()
    const one = recorder()
    await first.start(one.handler)
    await one.until(100)
    await first.stop()
    // Written in place: the number stays.
    truncateSync(file)
    appendFileSync(file, text)
    const second = follow()
    const two = recorder()
    await second.start(two.handler)
    const count = text.split('\n').length - 1
    await two.until(count)
    expect(two.seen).toEqual(text.split('\n').slice(0, -1).map(each => each.split(';')[0]))
    expect(second.stats().reports[0]).toEqual({
      place: file, reason: 'the file that was being read is gone; the one there now is read from its beginning',
    })
  })

  test('begins anew when its checkpoint is damaged', async () => {
    writeFileSync(file, lines(1, 3))
    const first = follow()
    const one = recorder()
    await first.start(one.handler)
    await one.until(3)
    await first.stop()
    writeFileSync(first.checkpointPath, readFileSync(first.checkpointPath, 'utf8').slice(0, 20))
    const two = recorder()
    await follow().start(two.handler)
    await two.until(3)
    expect(two.seen).toEqual(ids(1, 3))
  })

  test('does not start when its checkpoint cannot be read', async () => {
    const source = follow()
    mkdirSync(source.checkpointPath, { recursive: true })
    await expect(source.start(recorder().handler)).rejects.toMatchObject({
      code: 'CMESH_CONFIG_INVALID',
      message: expect.stringContaining(`The setting miner.logFile is not valid: ${source.checkpointPath}`),
    })
  })

  test('brings an entry again whose handling had not ended, and not those before it', async () => {
    writeFileSync(file, lines(1, 5))
    const first = follow()
    let release: () => void = () => undefined
    const held = new Promise<MinerOutcome>(resolve => { release = () => { resolve('retry') } })
    const one = recorder(id => (id === '3' ? held : 'done'))
    await first.start(one.handler)
    await one.until(5)
    const stopping = first.stop()
    release()
    await stopping
    expect(JSON.parse(readFileSync(first.checkpointPath, 'utf8'))).toMatchObject({ version: 1, path: file, offset: 2 * line(1).length })
    const two = recorder()
    await follow().start(two.handler)
    await two.until(3)
    expect(two.seen).toEqual(ids(3, 5))
  })

  test('a process killed with -9 loses no entry, and its successor does not begin at the beginning', async () => {
    writeFileSync(file, lines(1, 2_000))
    const child = (): { seen: string[], until(count: number): Promise<void>, kill(): Promise<void> } => {
      const hooks = fileURLToPath(new URL('../typescript-hooks.mjs', import.meta.url))
      const program = fileURLToPath(new URL('support/miner-child.ts', import.meta.url))
      const running = spawn(process.execPath, ['--import', hooks, program, file, dir], { stdio: ['ignore', 'pipe', 'inherit'] })
      const gone = new Promise<void>(resolve => { running.once('exit', () => { resolve() }) })
      const { seen, until, handler } = recorder()
      createInterface({ input: running.stdout }).on('line', id => void handler({ id, fqmn: '' }))
      return { seen, until, kill: () => (running.kill('SIGKILL'), gone) }
    }
    const first = child()
    await first.until(500)
    const position = (): number => {
      const [name] = sources.map(source => source.checkpointPath)
      return name !== undefined && existsSync(name) ? (JSON.parse(readFileSync(name, 'utf8')) as { offset: number }).offset : 0
    }
    follow()
    while (position() === 0) await turn()
    await first.kill()
    const kept = position()
    appendFileSync(file, line('last'))
    const second = child()
    const all = (): Set<string> => new Set([...first.seen, ...second.seen])
    for (let n = 1; !all().has('last'); n++) await second.until(n)
    await second.kill()
    expect(kept).toBeGreaterThan(0)
    expect(second.seen[0]).not.toBe('1')
    expect(all()).toEqual(new Set([...ids(1, 2_000), 'last']))
  })
})

describe('entries under way', () => {
  test('are never more than the limit, and the file is not read on meanwhile', async () => {
    const gate: (() => void)[] = []
    let underWay = 0
    let most = 0
    writeFileSync(file, lines(1, 50))
    const source = follow({ maxInFlight: 4 })
    const { handler, seen, until } = recorder(async (): Promise<MinerOutcome> => {
      most = Math.max(most, ++underWay)
      await new Promise<void>(resolve => { gate.push(resolve) })
      underWay--
      return 'done'
    })
    await source.start(handler)
    await until(4)
    source.tick()
    for (let i = 0; i < 10; i++) await turn()
    expect([seen.length, source.stats().inFlight]).toEqual([4, 4])
    expect(source.stats().lag).toBe(lines(1, 50).length)
    for (let n = 1; n <= 50; n++) {
      await until(Math.min(50, n + 3))
      gate.shift()?.()
    }
    await lookUntil(source, () => source.stats().done === 50)
    expect([most, seen]).toEqual([4, ids(1, 50)])
    expect(source.stats()).toMatchObject({ inFlight: 0, lag: 0 })
  })

  test('are tried again after retry, in their turn', async () => {
    writeFileSync(file, lines(1, 2))
    const source = follow()
    const { handler, seen } = recorder((id, call) => (id === '1' && call < 3 ? 'retry' : 'done'))
    await source.start(handler)
    await lookUntil(source, () => source.stats().done === 2)
    expect(seen.filter(id => id === '1')).toHaveLength(3)
    expect(source.stats()).toMatchObject({ retried: 2, abandoned: 0 })
  })

  test('are given up after their last try, reported, and do not come again', async () => {
    writeFileSync(file, lines(1, 2))
    const source = follow({ maxTries: 3 })
    const { handler, seen } = recorder(id => (id === '1' ? 'retry' : 'done'))
    await source.start(handler)
    await lookUntil(source, () => source.stats().abandoned === 1)
    expect(seen.filter(id => id === '1')).toHaveLength(3)
    expect(source.stats()).toMatchObject({ done: 1, retried: 3, abandoned: 1, garbage: 0 })
    expect(source.stats().reports).toEqual([{ place: `byte 0 of ${file}`, reason: 'given up after 3 tries' }])
    await source.stop()
    appendFileSync(file, line(3))
    const two = recorder()
    await follow().start(two.handler)
    await two.until(1)
    expect(two.seen).toEqual(['3'])
  })

  test('are counted as garbage when their handler says so', async () => {
    writeFileSync(file, lines(1, 1))
    const source = follow()
    await source.start(async () => ({ garbage: 'no such thing' }))
    await lookUntil(source, () => source.stats().garbage === 1)
    expect(source.stats().reports).toEqual([{ place: `byte 0 of ${file}`, reason: 'no such thing' }])
  })

  test('a handler that rejects against its promise costs a try and nothing else', async () => {
    writeFileSync(file, lines(1, 1))
    const source = follow()
    const { handler } = recorder((_id, call) => (call === 1 ? Promise.reject(new Error('broken')) : 'done'))
    await source.start(handler)
    await lookUntil(source, () => source.stats().done === 1)
    expect(source.failures.map(failure => failure.code)).toEqual(['CMESH_INTERNAL'])
  })

  test('are waited for by stop, which is idempotent and ends a wait between tries at once', async () => {
    writeFileSync(file, lines(1, 2))
    const source = follow({ retryDelayMs: 60_000 })
    let finish: () => void = () => undefined
    const held = new Promise<MinerOutcome>(resolve => { finish = () => { resolve('done') } })
    const { handler, until } = recorder(id => (id === '1' ? 'retry' : held))
    await source.start(handler)
    await until(2)
    let stopped = false
    const stopping = source.stop()
    void stopping.then(() => { stopped = true })
    for (let i = 0; i < 10; i++) await turn()
    expect(stopped).toBe(false)
    finish()
    await Promise.all([stopping, source.stop()])
    expect(source.stats()).toMatchObject({ done: 1, inFlight: 0 })
  })
})
