import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../cmtp/errors.ts'
import { decodeHeaders } from '../../cmtp/headers.ts'
import { argumentsOf, errorReply, jsonBody, jsonReply, jsonTextReply, wireErrorReply, type Reply } from '../../services/call.ts'
import { testCall } from '../support/calls.ts'
import { refusal } from '../support/refusal.ts'

const shown = ({ status, headers, body }: Reply): object => ({ status, headers: decodeHeaders(headers), body: Buffer.from(body).toString() })

describe('a reply', () => {
  test('is JSON with its content type', () => {
    expect(shown(jsonReply({ a: 1 }))).toEqual({ status: 200, headers: [['content-type', 'application/json']], body: '{"a":1}' })
    expect(shown(jsonTextReply(Buffer.from('[1]')))).toEqual({ status: 200, headers: [['content-type', 'application/json']], body: '[1]' })
  })

  test('that is an error says so in its content type, and when to come back in HTTP\'s seconds', () => {
    const busy = new CMeshError('CMESH_ROUTER_BUSY', { what: 'x', limit: 1, retryAfterMs: 1_001 })
    expect(shown(errorReply(busy))).toEqual({
      status: 429, headers: [['content-type', 'application/cmesh-error+json'], ['retry-after', '2']], body: JSON.stringify(busy.toWire()),
    })
    const gone = new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: '0xfff' })
    expect(shown(wireErrorReply(404, gone.toWire(), [['x-cmesh-transaction', 'ab']]))).toMatchObject({
      headers: [['content-type', 'application/cmesh-error+json'], ['x-cmesh-transaction', 'ab']],
    })
  })
})

describe('arguments', () => {
  test('stand in the address or in the body', () => {
    expect(Buffer.from(argumentsOf(testCall('0xS:0x001:f:["é"]'))).toString()).toBe('["é"]')
    expect(Buffer.from(argumentsOf(testCall('0xS:0x001:f', { body: Buffer.from('[1]') }))).toString()).toBe('[1]')
    expect(argumentsOf(testCall('0xS:0x001:f'))).toHaveLength(0)
  })

  test('in both are refused', () => {
    const { code, message } = refusal(() => argumentsOf(testCall('0xS:0x001:f:[]', { body: Buffer.from('[1]') })))
    expect({ code, message }).toEqual({ code: 'CMESH_FQMN_ARGUMENTS_TWICE', message: 'Arguments stand in the address and in the body: give them in one place.' })
  })
})

describe('a body that must be an object', () => {
  test('is that object', () => {
    expect(jsonBody(Buffer.from('{"a":1}'), '{"a"}')).toEqual({ a: 1 })
  })

  test.each(['', '{', '[]', 'null', '1', '"x"', '\u0000'])('is refused when it is %j, with what is expected', body => {
    const { code, message } = refusal(() => jsonBody(Buffer.from(body), '{"a"}'))
    expect({ code, message }).toEqual({ code: 'CMESH_FRAME_MALFORMED', message: 'The frame is malformed at byte 0: expected a JSON object as body: {"a"}.' })
  })
})
