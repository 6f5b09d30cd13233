import { createHash } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import { CATALOGUE } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { RequestFrame } from '../../cmtp/frame.ts'
import { decodeHeaders, encodeHeaders } from '../../cmtp/headers.ts'
import { decodeLayer, encodeLayer, layerSite, type Hop } from '../../cmtp/layer.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { normaliseName } from '../../cmtp/name.ts'
import { carriedSubject, eventSubject, helloSubject, mineSubject, requestSubject, REVOKED_SUBJECT, serviceSubject } from '../../cmtp/subject.ts'
import { receiptOf } from '../../cmtp/wire.ts'
import { refusal } from '../support/refusal.ts'
import { projectFile } from '../support/sources.ts'
import { bytesOf, readVectors, type CodecVectors } from '../support/vectors.ts'

const SPEC = projectFile('cmtp/SPEC.md')
const GUIDE = projectFile('docs/fqmn.md')

/** The cells of every row of the Markdown tables under a heading, without the rows of heads and rules. */
function rowsUnder(heading: string): string[][] {
  const section = SPEC.split(/^#{2,3} /m).find(text => text.startsWith(heading)) ?? ''
  const rows = Array.from(section.matchAll(/^\| (.+) \|$/gm), ([, row = '']) => row.split(' | ').map(cell => cell.trim()))
  return rows.filter(([first]) => first !== '---')
}
/** The lines of each fenced block of a language. */
function fences(text: string, language: string): string[][] {
  const blocks = text.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\``, 'gm'))
  return Array.from(blocks, ([, block = '']) => block.split('\n').filter(line => line !== ''))
}

/** Blocks of hex with a remark behind two spaces. */
const HEX = fences(SPEC, 'hex').map(block => block.map(line => (line.split(/ {2,}/)[0] ?? '').replaceAll(' ', '')).join(''))

describe('the examples of the specification', () => {
  const vector = (file: string, name: string): string =>
    readVectors<CodecVectors<unknown>>(`cmtp/${file}`).accepted.find(one => one.name === name)?.hex ?? 'missing'

  test('the request and the reply are the vectors that they name', () => {
    expect(HEX[0]).toBe(vector('request.json', 'arguments in the body'))
    expect(HEX[1]).toBe(vector('reply.json', 'a result'))
    expect(RequestFrame.decode(bytesOf(HEX[0] ?? '')).body.toString()).toBe('["Dexter"]')
  })

  test('each preimage gives the digest below it, and the last is the final hash of the vector it names', () => {
    const { vectors } = readVectors<{ vectors: { name: string, final: string }[] }>('cmtp/final-hash.json')
    const [place = '', placeDigest = '', preimage = '', final] = HEX.slice(2)
    expect(createHash('sha256').update(bytesOf(place)).digest('hex')).toBe(placeDigest)
    expect(preimage).toContain(placeDigest)
    expect(createHash('sha256').update(bytesOf(preimage)).digest('hex')).toBe(final)
    expect(final).toBe(vectors.find(({ name }) => name === 'a lone router')?.final)
    expect(HEX).toHaveLength(6)
  })
})

describe('the tables of the specification', () => {
  test('the static header table is the one that is spoken', () => {
    const cells = rowsUnder('5 Headers').flat()
    const table = new Map<string, string>()
    for (let i = 0; i < cells.length; i += 2) table.set(cells[i] ?? '', (cells[i + 1] ?? '').replaceAll('`', ''))
    table.delete('index')
    expect(table.size).toBe(24)
    for (const [index, name] of table) {
      expect(decodeHeaders(Buffer.of(Number(index), 0, 0))).toEqual([[name, '']])
      expect(encodeHeaders([[name, '']])).toEqual(Buffer.of(Number(index), 0, 0))
    }
    expect(refusal(() => decodeHeaders(Buffer.of(25, 0, 0))).code).toBe('CMESH_FRAME_MALFORMED')
  })

  test('hops, decisions and receipt levels are those that are spoken', () => {
    const rows = rowsUnder('8 Layers')
    const hops = rows.filter(row => row.length === 4 && /^\d+$/.test(row[0] ?? '')).flatMap(([a, b, c, d]) =>
      [[a, b], [c, d]] as const)
    expect(hops).toHaveLength(8)
    const layer = { decision: 'none', grant: '', status: 200, startUs: 0, durationUs: 0, gas: 0n, before: undefined,
      after: undefined, argumentsHash: undefined } as const
    for (const [number, name = ''] of hops) {
      expect(encodeLayer({ ...layer, site: layerSite(name.replaceAll('`', '') as Hop, '', '') })[1])
        .toBe(Number(number))
    }
    const decisions = rows.filter(row => row.length === 2 && /^\d$/.test(row[0] ?? ''))
    expect(decisions).toHaveLength(3)
    for (const [number, name] of decisions) {
      const bytes = encodeLayer({ ...layer, site: layerSite('router', '', '') })
      bytes[3] = Number(number)
      expect(`\`${decodeLayer(bytes).decision}\``).toBe(name)
    }
    const levels = rowsUnder('4 Frames').filter(row => row.length === 3 && /^`\w+`$/.test(row[1] ?? ''))
    expect(levels.map(([number, name]) => [name, receiptOf(Number(number))]))
      .toEqual([['`hash`', 'hash'], ['`none`', 'none'], ['`full`', 'full']])
  })

  test('the statuses are those of the catalogue, but for what never crosses the wire', () => {
    const told = rowsUnder('10 Status and errors').map(([status]) => Number(status)).filter(status => status >= 400)
    const given = new Set<number>(Object.entries(CATALOGUE).filter(([code]) => !code.startsWith('CMESH_CLIENT_'))
      .map(([, { status }]) => status))
    expect(told).toEqual([...given].sort((a, b) => a - b))
  })

  test('the codes it names exist', () => {
    for (const [code] of SPEC.matchAll(/CMESH_[A-Z]+_[A-Z_]+[A-Z]/g)) expect(Object.keys(CATALOGUE)).toContain(code)
  })

  test('the limits it names are those that are kept', () => {
    const numbers = new Set(Array.from(SPEC.matchAll(/\b\d{1,3}(?:,\d{3})+\b/g), ([number]) =>
      Number(number.replaceAll(',', ''))))
    for (const number of numbers) expect(Object.values(LIMITS)).toContain(number)
    expect(numbers.size).toBeGreaterThan(5)
  })

  test('the subjects are those that are built', () => {
    const subjects = rowsUnder('12 Subjects').map(([subject = '']) => subject.replaceAll('`', ''))
    for (const built of [
      requestSubject('sid').replace(/sid$/, '<sid>'), carriedSubject('via', 'sid').replace(/via\.sid$/, '<via>.<sid>'),
      helloSubject('cid').replace(/cid$/, '<cid>'), helloSubject('cid', 'node').replace(/cid\.node$/, '<cid>.<node>'),
      serviceSubject('service', 'verb').replace(/service\.verb$/, '<service>.<verb>'),
      eventSubject('channel').replace(/channel$/, '<channel>'), mineSubject('sid').replace(/sid$/, '<sid>'), REVOKED_SUBJECT,
    ]) expect(subjects).toContain(built)
  })
})

describe('the guide to addresses', () => {
  const tableRows = Array.from(GUIDE.matchAll(/^\| `([^`]+)` \| (.+) \|$/gm), ([, first = '', second = '']) =>
    [first, second] as const)

  test('every worked example is an address', () => {
    const examples = fences(GUIDE, 'fqmn').flat()
    expect(examples.length).toBeGreaterThan(10)
    for (const example of examples) expect(parseFqmn(example).text).toBe(example)
  })

  test('has the worked examples of the vectors', () => {
    const accepted = new Set(readVectors<{ fqmn: string }[]>('fqmn/accepted.json').map(({ fqmn }) => fqmn))
    expect(fences(GUIDE, 'fqmn').flat().filter(example => accepted.has(example)).length).toBeGreaterThan(8)
  })

  test('every refused example is answered as it says', () => {
    const refused = tableRows.filter(([, answer]) => /^The (FQMN|arguments) /.test(answer))
    expect(refused.length).toBeGreaterThan(4)
    for (const [address, answer] of refused) expect(refusal(() => parseFqmn(address)).message).toBe(answer)
  })

  test('every name has the normal form that it says', () => {
    const names = tableRows.filter(([, normal]) => /^`[^`]+\.mcom`$/.test(normal))
    expect(names).toHaveLength(3)
    for (const [typed, normal] of names) expect(normaliseName(typed)).toBe(normal.replaceAll('`', ''))
  })
})
