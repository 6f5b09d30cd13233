import { describe, expect, test } from '@jest/globals'
import { RequestTemplates, TEMPLATE_BYTES } from '../../client/request-templates.ts'
import { withToken } from '../../client/with-token.ts'
import { BatchFrame, encodeBatch } from '../../cmtp/batch.ts'
import { encodeRequest, RequestFrame } from '../../cmtp/frame.ts'
import { MessageIds } from '../../cmtp/message-id.ts'

const TOKEN = Buffer.from('t'.repeat(600))

describe('request templates', () => {
  test.each(['hash', 'none', 'full'] as const)('a frame of level %s equals what the encoder makes', (receipt) => {
    const templates = new RequestTemplates(TOKEN, new MessageIds())
    for (const fqmn of ['0xS:0x001:hello_world', '0xS:0x001:hello_world:["ü"]', '0xS:0x001:hello_world']) {
      const frame = templates.frame(fqmn, receipt, 1_764_000_000_123)
      const { id } = RequestFrame.decode(frame)
      expect(frame.equals(encodeRequest({ id, fqmn, token: TOKEN, deadlineMs: 1_764_000_000_123, receipt, bundle: true }))).toBe(true)
    }
  })

  test('two frames of one address share no memory and no id', () => {
    const templates = new RequestTemplates(TOKEN, new MessageIds())
    const first = templates.frame('0xS:0x001:a', 'hash', 1)
    const copy = Buffer.from(first)
    const second = templates.frame('0xS:0x001:a', 'hash', 2)
    second.fill(0)
    expect(first.equals(copy)).toBe(true)
    expect(RequestFrame.decode(templates.frame('0xS:0x001:a', 'hash', 2)).id.equals(RequestFrame.decode(first).id)).toBe(false)
  })

  test('a third generation of addresses evicts the first, and frames stay right', () => {
    const templates = new RequestTemplates(TOKEN, new MessageIds(), 2)
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f', 'a']) {
      expect(RequestFrame.decode(templates.frame(`0xS:0x001:${name}`, 'hash', 5)).fqmn).toBe(`0xS:0x001:${name}`)
    }
  })

  test('an address too long for a template is sent all the same, and one past the limit is refused', () => {
    const templates = new RequestTemplates(TOKEN, new MessageIds())
    const long = `0xS:0x001:f:["${'x'.repeat(TEMPLATE_BYTES)}"]`
    expect(RequestFrame.decode(templates.frame(long, 'hash', 5)).fqmn).toBe(long)
    expect(() => templates.frame(`0xS:0x001:f:["${'x'.repeat(4_096)}"]`, 'hash', 5)).toThrow(expect.objectContaining({ code: 'CMESH_FQMN_TOO_LONG' }))
  })
})

describe('another token', () => {
  const id = new MessageIds().next()
  test('a request keeps its id, deadline and all else', () => {
    const fields = { id, fqmn: '0xSW:0x001:say', deadlineMs: 99, receipt: 'full' as const, headers: Buffer.from([1, 0, 1, 65]), body: Buffer.from('["a"]') }
    const moved = withToken(encodeRequest({ ...fields, token: TOKEN }), Buffer.from('new'))
    expect(moved.equals(encodeRequest({ ...fields, token: Buffer.from('new') }))).toBe(true)
  })

  test('a batch keeps every entry', () => {
    const fields = {
      id, deadlineMs: 99, receipt: 'none' as const,
      entries: [{ fqmn: '0xS:0x001:a' }, { fqmn: '0xS:0x001:b', headers: Buffer.from([1, 0, 1, 65]), body: Buffer.from('x') }],
    }
    const moved = withToken(encodeBatch({ ...fields, token: TOKEN }), Buffer.from('new'))
    expect(moved.equals(encodeBatch({ ...fields, token: Buffer.from('new') }))).toBe(true)
    expect(BatchFrame.decode(moved).entries).toHaveLength(2)
  })
})
