/** `cmesh receipt` on files alone: what it shows of a receipt, and what of one of which layers are kept back. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { InvalidArgumentError } from 'commander'
import { EXIT } from '../../../client/cli/exit-codes.ts'
import { pastMoment } from '../../../client/cli/moment.ts'
import { run } from '../../../client/cli/program.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { sha256 } from '../../../cmtp/layer.ts'
import { decodeReceipt, encodeReceipt } from '../../../cmtp/receipt/receipt.ts'
import { capture } from '../support/capture.ts'

const MESH = KeyPair.fromSeed(Buffer.alloc(32, 0x51)).did
const golden = (name: string): string => new URL(`../../vectors/receipts/${name}.receipt`, import.meta.url).pathname
const VIEW = golden('a-view-read')
const WRITE = golden('a-write')

let dir: string
beforeAll(async () => { dir = await mkdtemp(join(tmpdir(), 'cmesh-receipt-')) })
afterAll(() => rm(dir, { recursive: true, force: true }))

async function cmesh(...args: readonly string[]): Promise<{ readonly code: number, readonly out: string, readonly err: string }> {
  const { terminal, out, err } = capture({ env: { CMESH_DATA_DIR: join(dir, 'none') } })
  const code = await run(['receipt', ...args], terminal)
  return { code, out: out(), err: err() }
}
const json = async (...args: readonly string[]): Promise<unknown> => JSON.parse((await cmesh(...args, '--json')).out)

test('what a receipt says moves no cursor of whoever looks at it', async () => {
  const file = join(dir, 'hostile')
  const receipt = decodeReceipt(await readFile(VIEW))
  const layers = receipt.layers.map(({ hash, shown }) => {
    const texts = Buffer.from(Buffer.from(shown?.texts ?? []).toString('latin1').replaceAll('hello_world', '\u001b[2J\rworld!'), 'latin1')
    const layer = Buffer.from(shown?.layer ?? [])
    layer.write(sha256(Buffer.concat([Buffer.of(2), texts])), 26, 'latin1')
    return { hash, shown: { layer, texts } }
  })
  await writeFile(file, encodeReceipt({ ...receipt, layers }))
  const { terminal, out, err } = capture({ tty: true })
  expect([await run(['receipt', 'show', file], terminal), err()]).toEqual([EXIT.ok, ''])
  expect(out()).toContain('\\x1b[2J\\x0dworld!')
  expect(out()).not.toMatch(/\u001b\[2J|\r/)
})

describe('a redacted receipt', () => {
  test.each([
    [['--layer', '0'], [0]],
    [['--layer', '1', '--layer', '0'], [0, 1]],
    [['--all-but', '0'], [1]],
    [['--all-but', '0', '--all-but', '1'], []],
  ])('by %j keeps %j back, verifies, and shows which those are', async (options, keptBack) => {
    const file = join(dir, `redacted ${options.join(' ')}`)
    expect(await json('redact', VIEW, ...options, '-o', file)).toEqual({ file, bytes: (await stat(file)).size, layers: 2, keptBack, evidenceLeftOut: false })
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(await json('verify', file, '--mesh', MESH)).toMatchObject({ valid: true, keptBack, layers: [0, 1].map(at => keptBack.includes(at) ? null : expect.anything()) })
    const [shown, verified] = [await cmesh('show', file), await cmesh('verify', file, '--mesh', MESH)]
    expect(verified.code).toBe(EXIT.ok)
    for (const { out } of [shown, verified]) {
      expect(/kept back {2}layer (.*): its hash stands for it/.exec(out)?.[1]).toBe(keptBack.length === 0 ? undefined : keptBack.join(', '))
      for (const at of [0, 1]) {
        const hash = Buffer.from(decodeReceipt(await readFile(file)).layers[at]?.hash ?? '').toString('hex', 0, 8)
        expect(new RegExp(`^ +${at}  (?:. )?.*kept back +hash ${hash}$`, 'm').test(out)).toBe(keptBack.includes(at))
      }
    }
  })

  test('of a write loses its claims with the layer that they are of, and says so', async () => {
    const [file, more] = [join(dir, 'write'), join(dir, 'write-that-is-claimed')]
    expect(await cmesh('redact', WRITE, '--layer', '0', '--out', file)).toMatchObject({ code: EXIT.ok, out: expect.stringContaining('the members\' claims, which are of a layer that is kept back') })
    expect(await json('verify', file, '--mesh', MESH)).toMatchObject({ valid: true, claims: [] })
    expect(await json('redact', WRITE, '--layer', '1', '--out', more)).toMatchObject({ evidenceLeftOut: false })
    expect(await json('verify', more, '--mesh', MESH)).toMatchObject({ valid: true, claims: [{}, {}, {}] })
  })

  test.each([
    [['--layer', '2'], 'There is no layer 2: the receipt has 2, numbered from 0 to 1.'],
    [['--all-but', '7'], 'There is no layer 7: the receipt has 2, numbered from 0 to 1.'],
    [['--layer', 'x'], 'It must be the number of a layer, from 0.'],
    [[], 'Say what to keep back: --layer N for one layer, or --all-but N for all others.'],
    [['--layer', '0', '--all-but', '1'], 'cannot be used with option'],
  ])('is not made by %j: %s', async (options, says) => {
    const file = join(dir, 'refused')
    const { code, err } = await cmesh('redact', VIEW, ...options, '--out', file)
    expect([code, err]).toEqual([EXIT.usage, expect.stringContaining(says)])
    await expect(stat(file)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  test('is not made of what is no receipt, or where nothing can be written', async () => {
    await writeFile(join(dir, 'noise'), 'noise')
    expect(await cmesh('redact', join(dir, 'noise'), '--layer', '0', '--out', join(dir, 'x'))).toMatchObject({ code: EXIT.usage, err: expect.stringContaining('CMESH_RECEIPT_FORMAT') })
    expect(await cmesh('redact', VIEW, '--layer', '0', '--out', join(dir, 'no', 'x'))).toMatchObject({ code: EXIT.usage, err: expect.stringContaining(`${join(dir, 'no', 'x')} cannot be written: `) })
  })
})

describe('what is no receipt', () => {
  test.each([['show'], ['redact', '--layer', '0', '--out', 'never'], ['verify', '--mesh', MESH]])('ends %s with 2, as verify does', async (command, ...options) => {
    for (const [name, bytes] of [['nothing', ''], ['other', 'CMRCnoise'], ['cut', (await readFile(VIEW)).subarray(0, 300)]] as const) {
      await writeFile(join(dir, name), bytes)
      expect((await cmesh(command, join(dir, name), ...options)).code).toBe(EXIT.usage)
    }
  })

  test('but for a layer of it is shown as little as it is verified: with 1', async () => {
    const bytes = await readFile(VIEW)
    const at = bytes.indexOf(Buffer.from(decodeReceipt(bytes).layers[1]?.shown?.layer ?? ''))
    bytes.writeUInt8(0xff, at)
    const file = join(dir, 'layer')
    await writeFile(file, bytes)
    expect(await cmesh('show', file)).toEqual({ code: EXIT.refused, out: '', err: 'error CMESH_RECEIPT_INVALID: The receipt does not hold (layer): layer 1 cannot be read.\n' })
    expect(await cmesh('verify', file, '--mesh', MESH)).toMatchObject({ code: EXIT.refused, out: expect.stringMatching(/^invalid: layer 1: /) })
  })
})

describe('a file that is there', () => {
  test('is not written over by a redacted receipt', async () => {
    const file = join(dir, 'mine')
    await writeFile(file, 'mine')
    const { code, out, err } = await cmesh('redact', VIEW, '--layer', '0', '-o', file)
    expect([code, out, err]).toEqual([EXIT.usage, '', `error CMESH_CLIENT_USAGE: ${file} is there already and is not written over: give another name, or move it away first.\n`])
    expect(await readFile(file, 'utf8')).toBe('mine')
  })
})

describe('what is found is asked for by its message id', () => {
  test.each(['abc', 'hello.receipt', '019aa2c4', `${'0'.repeat(31)}g`])('which %s is not', async (id) => {
    const { code, err } = await cmesh('find', id)
    expect([code, err]).toEqual([EXIT.usage, expect.stringContaining(`error CMESH_CLIENT_USAGE: command-argument value '${id}' is invalid for argument 'id'. A message id has 32 hex digits`)])
  })
})

describe('a time in the past', () => {
  test('is ISO 8601, ms since 1970, or how long ago', () => {
    expect(pastMoment('2030-01-31T12:00:00Z')).toBe(Date.UTC(2030, 0, 31, 12))
    expect(pastMoment('1800000000000')).toBe(1_800_000_000_000)
    for (const [text, ms] of [['90s', 90_000], ['15m', 900_000], ['2h', 7_200_000], ['7d', 604_800_000]] as const) {
      // Looked at first: the clock may move between the two.
      const then = pastMoment(text)
      const ago = Date.now() - then
      expect(ago >= ms && ago < ms + 60_000).toBe(true)
    }
    for (const text of ['', 'yesterday', '-2h', '2w', '2030', '2030-13-01', 'Jan 5']) expect(() => pastMoment(text === '2030' ? '2030x' : text)).toThrow(InvalidArgumentError)
  })

  test('must come before the end', async () => {
    expect(await cmesh('export', '--from', '1h', '--to', '2h', '--out', dir)).toMatchObject({ code: EXIT.usage, err: expect.stringContaining('--to must be later than --from.') })
    expect(await cmesh('export', '--out', dir)).toMatchObject({ code: EXIT.usage, err: expect.stringContaining('required option \'--from <time>\'') })
  })
})
