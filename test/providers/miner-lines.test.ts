import { hash } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { parseCheckpoint, type Checkpoint } from '../../providers/miner/checkpoint.ts'
import { LINE_BYTES, LineSplitter, parseLine, type ParsedLine } from '../../providers/miner/lines.ts'
import { Progress } from '../../providers/miner/progress.ts'

interface Read {
  readonly start: number
  readonly end: number
  readonly text: string | undefined
}

function split(splitter: LineSplitter, ...chunks: readonly Uint8Array[]): Read[] {
  const read: Read[] = []
  for (const chunk of chunks) {
    // One at a time: a line is valid until the next one is asked for.
    for (const { start, end, bytes } of splitter.push(chunk)) {
      read.push({ start, end, text: bytes && shown(Buffer.from(bytes).toString('latin1')) })
    }
  }
  return read
}

/** Long text as its length and its hash, so that a failure can be read. */
function shown(text: string): string {
  return text.length < 64 ? text : `${text.length} ${hash('sha256', text, 'hex')}`
}

/** The rule, said in another way: cut at every LF, drop one CR before it, too long is nothing. */
function byTheRule(file: Buffer): Read[] {
  const pieces = file.toString('latin1').split('\n')
  let start = 0
  return pieces.slice(0, -1).map(piece => {
    const text = piece.endsWith('\r') ? piece.slice(0, -1) : piece
    const read = { start, end: start + piece.length + 1, text: text.length > LINE_BYTES ? undefined : shown(text) }
    start = read.end
    return read
  })
}

describe('cutting a log file into lines', () => {
  test('gives the same lines for every way to cut the file up', () => {
    const line = fc.oneof(
      fc.uint8Array({ maxLength: 12 }),
      fc.constantFrom('', '\r', '#', '1;0xS:0x001:blah_blah', 'é;ü').map(text => Buffer.from(text)),
      fc.integer({ min: LINE_BYTES - 2, max: LINE_BYTES + 3 }).map(bytes => Buffer.alloc(bytes, 'x')),
      fc.constant(Buffer.alloc(3 * LINE_BYTES, 'y')),
    )
    const ending = fc.constantFrom('\n', '\r\n', '\n\n').map(text => Buffer.from(text))
    const file = fc.array(fc.tuple(line, ending), { maxLength: 8 }).map(lines => Buffer.concat(lines.flat()))
    const size = fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 2 * LINE_BYTES }))
    const cuts = fc.array(size, { minLength: 1, maxLength: 30 })
    fc.assert(fc.property(file, line, cuts, (lines, tail, sizes) => {
      const whole = Buffer.concat([lines, Buffer.from(tail)])
      const chunks: Buffer[] = []
      for (let at = 0, i = 0; at < whole.length; i++) {
        const size = sizes[i % sizes.length] ?? 1
        // Copied, and spoiled once it was read: nothing of a chunk may be relied on later.
        chunks.push(Buffer.from(whole.subarray(at, at + size)))
        at += size
      }
      const splitter = new LineSplitter()
      const read = chunks.flatMap(chunk => {
        const lines = split(splitter, chunk)
        chunk.fill(0x2a)
        return lines
      })
      expect(read).toEqual(byTheRule(whole))
      expect(splitter.unfinished).toBe(whole.length > 0 && whole.at(-1) !== 0x0a)
    }), { numRuns: 300 })
  })

  test('counts offsets from where it was set to, and forgets what was unfinished', () => {
    const splitter = new LineSplitter()
    split(splitter, Buffer.from('half'))
    expect([splitter.unfinished, splitter.start]).toEqual([true, 0])
    splitter.reset(1_000)
    expect(splitter.unfinished).toBe(false)
    expect(split(splitter, Buffer.from('ab\ncd\n'))).toEqual([
      { start: 1_000, end: 1_003, text: 'ab' }, { start: 1_003, end: 1_006, text: 'cd' },
    ])
  })

  test('a line of the greatest length is one, one byte more is none, whatever its end', () => {
    const splitter = new LineSplitter()
    for (const end of ['\n', '\r\n']) {
      const [fits, tooLong] = [`${'x'.repeat(LINE_BYTES)}${end}`, `${'x'.repeat(LINE_BYTES + 1)}${end}`]
      const read = split(splitter, Buffer.from(fits), Buffer.from(tooLong))
      expect(read.map(line => line.text)).toEqual([shown('x'.repeat(LINE_BYTES)), undefined])
    }
  })
})

describe('reading a line', () => {
  const read = (text: string | Uint8Array): ParsedLine => parseLine({ start: 0, end: 0, bytes: Buffer.from(text) })

  test.each([
    ['1;0xS:0x001:blah_blah', '1', '0xS:0x001:blah_blah'],
    ['2f0c-7:x!;0xR:helloWorldExample.mcom', '2f0c-7:x!', '0xR:helloWorldExample.mcom'],
    ['a;0xS:0x001:hello_world:["a;b # é"]', 'a', '0xS:0x001:hello_world:["a;b # é"]'],
    [`${'i'.repeat(63)};0xC:status`, 'i'.repeat(63), '0xC:status'],
  ])('%s is an entry', (text, id, fqmn) => {
    expect(read(text)).toEqual({ kind: 'entry', id, fqmn })
  })

  test.each(['', '#', '# 1;0xS:0x001:blah_blah'])('%j is passed over', text => {
    expect(read(text)).toEqual({ kind: 'blank' })
  })

  test.each([
    ['0xS:0x001:blah_blah', 'there is no semicolon between an id and an FQMN'],
    [' ', 'there is no semicolon between an id and an FQMN'],
    [';0xS:0x001:blah_blah', 'the id is not 1 to 63 printable characters without spaces'],
    ['a b;0xS:0x001:blah_blah', 'the id is not 1 to 63 printable characters without spaces'],
    [`${'i'.repeat(64)};0xC:status`, 'the id is not 1 to 63 printable characters without spaces'],
    ['é;0xC:status', 'the id is not 1 to 63 printable characters without spaces'],
    ['1;', expect.stringMatching(/^The FQMN .* at byte 0/)],
    ['1; 0xC:status', expect.stringMatching(/^The FQMN .* at byte 0/)],
    ['1;0xZ:status', expect.stringMatching(/^The FQMN has an unknown opcode/)],
    ['1;0xC:status ', expect.stringMatching(/^The FQMN is malformed at byte 10/)],
    [Buffer.from([0x31, 0x3b, 0xff]), 'the line is not UTF-8'],
    [Buffer.from([0x31, 0x3b, 0xc3]), 'the line is not UTF-8'],
  ])('%j is garbage, and the reason is named', (text, reason) => {
    expect(read(text)).toEqual({ kind: 'garbage', reason })
  })

  test('a line over the limit is garbage', () => {
    expect(parseLine({ start: 0, end: 9, bytes: undefined })).toEqual({ kind: 'garbage', reason: 'the line is longer than 4160 bytes' })
  })

  test('any bytes are an entry, blank or garbage', () => {
    fc.assert(fc.property(fc.oneof(fc.uint8Array(), fc.string().map(text => Buffer.from(`1;${text}`))), bytes => {
      expect(['entry', 'blank', 'garbage']).toContain(read(bytes).kind)
    }))
  })
})

describe('how far a file is done', () => {
  test('is behind the longest run from the beginning that has ended, in whatever order entries end', () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('begin' as const) }),
      fc.record({ do: fc.constant('pass' as const) }),
      fc.record({ do: fc.constant('file' as const) }),
      fc.record({ do: fc.constant('end' as const), which: fc.nat() }),
    )
    fc.assert(fc.property(fc.array(step, { maxLength: 100 }), steps => {
      let file = 0
      let offset = 0
      const progress = new Progress({ file, offset })
      const all: { file: number, offset: number, ended: boolean, over: () => void }[] = []
      for (const act of steps) {
        if (act.do === 'begin') {
          offset += 10
          all.push({ file, offset, ended: false, over: progress.begin(file, offset) })
        } else if (act.do === 'end') {
          const open = all.filter(piece => !piece.ended)
          const piece = open[act.which % Math.max(1, open.length)]
          if (piece !== undefined) {
            piece.ended = true
            piece.over()
          }
        } else {
          if (act.do === 'file') file++
          offset = act.do === 'file' ? 0 : offset + 1
          all.push({ file, offset, ended: true, over: () => undefined })
          progress.pass(file, offset)
        }
        const firstOpen = all.findIndex(piece => !piece.ended)
        const last = all[(firstOpen === -1 ? all.length : firstOpen) - 1] ?? { file: 0, offset: 0 }
        expect(progress.position).toEqual({ file: last.file, offset: last.offset })
      }
    }))
  })

  test('takes no memory for what is passed over', () => {
    const progress = new Progress({ file: 'a', offset: 0 })
    const over = progress.begin('a', 10)
    for (let i = 11; i < 1_000; i++) progress.pass('a', i)
    expect(progress.open).toBe(1)
    over()
    expect(progress.position).toEqual({ file: 'a', offset: 999 })
    expect(progress.open).toBe(0)
  })
})

describe('a checkpoint', () => {
  const whole: Checkpoint = {
    version: 1, path: '/a', dev: '1', ino: '18446744073709551615', offset: 5, fingerprint: { bytes: 3, sha256: 'ab' },
  }

  test('is read as it was written', () => {
    expect(parseCheckpoint(JSON.stringify(whole))).toEqual(whole)
  })

  test.each([
    '', '{', 'null', '[]', '{"version":1}', JSON.stringify({ ...whole, version: 2 }), JSON.stringify({ ...whole, offset: -1 }),
    JSON.stringify({ ...whole, offset: '5' }), JSON.stringify({ ...whole, fingerprint: null }), JSON.stringify(whole).slice(0, -5),
  ])('%j is none', text => {
    expect(parseCheckpoint(text)).toBeUndefined()
  })

  test('any text is a checkpoint or none', () => {
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), text => {
      expect(parseCheckpoint(text)?.version ?? 1).toBe(1)
    }))
  })
})
