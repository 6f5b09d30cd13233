import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { CATALOGUE, CMeshError, type ErrorCode } from '../../cmtp/errors.ts'
import { projectFile, sourceText } from '../support/sources.ts'

const CODES = Object.keys(CATALOGUE) as ErrorCode[]
const placeholders = (template: string): string[] =>
  [...new Set(Array.from(template.matchAll(/\{(\w+)\}/g), ([, word = '']) => word))].sort()

interface Section {
  readonly status: number
  readonly retry: string
  readonly message: string
  /** Placeholder to explanation. */
  readonly words: Readonly<Record<string, string>>
  readonly when: string
  readonly remedy: string
}

/** The sections of `docs/errors.md` by code. A section that is not of the page's form fails to parse. */
function readDocs(): Map<string, Section> {
  const text = projectFile('docs/errors.md')
  const sections = new Map<string, Section>()
  for (const block of text.split(/^### /m).slice(1)) {
    const [code = '', ...paragraphs] = (block.split(/^## /m)[0] ?? '').trim().split(/\n{2,}/).map(paragraph => paragraph.trim())
    const one = (pattern: RegExp): RegExpExecArray => {
      const matches = paragraphs.map(paragraph => pattern.exec(paragraph)).filter(match => match !== null)
      if (matches.length !== 1) throw new Error(`docs/errors.md: ${code} has ${matches.length} paragraphs of the form ${String(pattern)}`)
      return matches[0] as RegExpExecArray
    }
    const [, status = '', retry = ''] = one(/^`(\d+)` · `(\w+)`$/)
    const list = paragraphs.find(paragraph => paragraph.startsWith('- ')) ?? ''
    if (sections.has(code)) throw new Error(`docs/errors.md has ${code} twice`)
    sections.set(code, {
      status: Number(status),
      retry,
      message: one(/^> (.+)$/)[1] ?? '',
      when: one(/^\*\*When:\*\* ([^]+)$/)[1] ?? '',
      remedy: one(/^\*\*What to do:\*\* ([^]+)$/)[1] ?? '',
      words: Object.fromEntries(list.split(/^- /m).slice(1)
        .map(item => /^`\{(\w+)\}`: ([^]+)$/.exec(item)?.slice(1) as [string, string])),
    })
  }
  return sections
}

describe('the catalogue and its page', () => {
  const docs = readDocs()

  test('docs/errors.md has every code of the catalogue and no other', () => {
    expect([...docs.keys()].sort()).toEqual([...CODES].sort())
  })

  test.each(CODES)('%s is told with its status, retry class and message', code => {
    const { status, retry, message } = CATALOGUE[code]
    expect(docs.get(code)).toMatchObject({ status, retry, message })
  })

  test.each(CODES)('%s is explained: each placeholder, when it comes and what to do', code => {
    const section = docs.get(code)
    expect(Object.keys(section?.words ?? {}).sort()).toEqual(placeholders(CATALOGUE[code].message))
    // Three words at least: a lone repetition of the name explains nothing.
    for (const explanation of [section?.when, section?.remedy, ...Object.values(section?.words ?? {})]) {
      expect(explanation).toMatch(/(\S+\s+){2,}\S/)
    }
  })

  test('every code is used outside the catalogue', () => {
    const sources = sourceText('cmtp/errors.ts')
    expect(CODES.filter(code => !new RegExp(`'${code}'`).test(sources))).toEqual([])
  })

  test('codes, statuses and retry classes fit together', () => {
    for (const code of CODES) {
      const { status, retry, message } = CATALOGUE[code]
      expect(code).toMatch(/^CMESH(_[A-Z][A-Z0-9]*){1,4}$/)
      expect(status).toBeGreaterThanOrEqual(400)
      expect(status).toBeLessThan(600)
      expect(message.length).toBeGreaterThan(5)
      // What the caller got wrong stays wrong, save for a limit of rate and a reference that stands for something it has.
      if (retry === 'retry') expect([code, status >= 500 || status === 429 || code === 'CMESH_IAM_TOKEN']).toEqual([code, true])
      if (retry === 'bug') expect([code, status]).toEqual([code, 500])
      if (status === 429) expect([code, retry]).toEqual([code, 'retry'])
    }
  })
})

describe('a coded error', () => {
  test('takes status, retry class and message from its code', () => {
    const error = new CMeshError('CMESH_REGISTRAR_TAKEN',
      { name: 'a.mcom', owner: 'did:key:z1', expires: '2027-01-01T00:00:00.000Z' })
    expect(error).toBeInstanceOf(Error)
    expect({ ...error, message: error.message, name: error.name }).toEqual({
      name: 'CMeshError', code: 'CMESH_REGISTRAR_TAKEN', status: 409, retry: 'terminal',
      message: 'The name a.mcom is taken by did:key:z1 until 2027-01-01T00:00:00.000Z.',
      detail: { name: 'a.mcom', owner: 'did:key:z1', expires: '2027-01-01T00:00:00.000Z' },
    })
  })

  test('fills its message with values as they are, once', () => {
    expect(new CMeshError('CMESH_NAME_INVALID', { name: '{reason}', reason: '$& $1' }).message)
      .toBe('The name {reason} is not valid: $& $1.')
    expect(new CMeshError('CMESH_NAME_INVALID', {}).message).toBe('The name {name} is not valid: {reason}.')
  })

  test('crosses the wire with whitelisted fields only', () => {
    const error = new CMeshError('CMESH_INTERNAL', { component: 'state', id: '7' }, { cause: new Error('secret') })
    expect(JSON.parse(JSON.stringify(error.toWire()))).toEqual({
      code: 'CMESH_INTERNAL', message: 'An unexpected failure in state. It is logged with the message id 7.', retry: 'bug',
      detail: { component: 'state', id: '7' },
    })
    expect(JSON.stringify(error.toWire())).not.toMatch(/secret|stack/)
  })

  test('prompts for identity exactly when it is a 401, or for the token where a reference to it will not do', () => {
    for (const code of CODES) {
      const prompt = code === 'CMESH_IAM_TOKEN' ? 'token' : 'identity'
      expect([code, new CMeshError(code).toWire().prompt]).toEqual([code, CATALOGUE[code].status === 401 ? prompt : undefined])
    }
  })

  test('comes off the wire as it went on', () => {
    const scalar = fc.oneof(fc.string(), fc.integer(), fc.boolean())
    const anyDetail = fc.dictionary(fc.stringMatching(/^[A-Za-z]{1,8}$/), scalar, { noNullPrototype: true })
    fc.assert(fc.property(fc.constantFrom(...CODES), anyDetail, (code, detail) => {
      const error = new CMeshError(code, detail)
      const back = CMeshError.fromWire(JSON.parse(JSON.stringify(error.toWire())))
      expect([back.code, back.status, back.retry, back.message, back.detail])
        .toEqual([error.code, error.status, error.retry, error.message, error.detail])
    }))
  })

  test('anything off the wire is a coded error: an unknown code keeps what came as its cause', () => {
    fc.assert(fc.property(fc.anything(), wire => {
      expect(CMeshError.fromWire(wire)).toBeInstanceOf(CMeshError)
    }))
    const newer = { code: 'CMESH_FROM_THE_FUTURE', message: 'new', retry: 'terminal', detail: {} }
    expect(CMeshError.fromWire(newer)).toMatchObject({ code: 'CMESH_INTERNAL', cause: newer })
    expect(CMeshError.fromWire({ code: 'toString' }).code).toBe('CMESH_INTERNAL')
    expect(CMeshError.fromWire({ code: 'CMESH_INTERNAL', detail: { component: {}, id: ['x'], extra: 1 } }).detail)
      .toEqual({ extra: 1 })
  })

  test('any thrown value becomes one, and a coded one stays itself', () => {
    const coded = new CMeshError('CMESH_CLIENT_CLOSED')
    expect(CMeshError.from(coded, 'client')).toBe(coded)
    const thrown = new TypeError('x')
    expect(CMeshError.from(thrown, 'state', '7'))
      .toMatchObject({ code: 'CMESH_INTERNAL', cause: thrown, detail: { component: 'state', id: '7' } })
  })
})
