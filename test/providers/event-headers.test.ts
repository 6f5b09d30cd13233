/** What a stored event says of itself in its headers, written and read back both ways; and what others may have written there. */
import { describe, expect, test } from '@jest/globals'
import { headers as newHeaders } from '@nats-io/nats-core'
import fc from 'fast-check'
import { eventHeaders, saidBy, saidByBlock } from '../../providers/events/event-headers.ts'
import type { EventOrigin } from '../../services/events/provider.ts'

const REQUEST = '00112233445566778899aabbccddeeff'

/** As the broker's API gives the headers of a message. */
function block(headers: Readonly<Record<string, string>>): string {
  return Buffer.from(`NATS/1.0\r\n${Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`, 'latin1').toString('base64')
}

function bothWays(headers: Readonly<Record<string, string>>): object[] {
  const message = newHeaders()
  for (const [name, value] of Object.entries(headers)) message.set(name, value)
  return [saidBy(message), saidByBlock(block(headers))]
}

describe('headers of an event', () => {
  test('say what was said, read from a message or a block, with others around them', () => {
    const request = fc.stringMatching(/^[0-9a-f]{32}$/)
    const place = { block: fc.integer({ min: 1, max: 999_999_999_999_999 }), index: fc.integer({ min: 0, max: 999_999 }) }
    const origins = fc.oneof(fc.record({ request }), fc.record({ request, ...place }))
    const traces = fc.stringMatching(/^[!-9;-~]{1,60}$/)
    fc.assert(fc.property(fc.option(origins, { nil: undefined }), fc.option(traces, { nil: undefined }), (origin, traceparent) => {
      const said = { ...(origin !== undefined && { origin: origin as EventOrigin }), ...(traceparent !== undefined && { traceparent }) }
      for (const read of bothWays({ 'Nats-Msg-Id': 'x', ...eventHeaders(said), 'Nats-Expected-Stream': 'y' })) expect(read).toEqual(said)
    }))
  })

  test('are none where there is nothing to say, and nothing is read of none', () => {
    expect(eventHeaders({})).toBeUndefined()
    expect([saidBy(undefined), saidByBlock(undefined), saidByBlock('')]).toEqual([{}, {}, {}])
  })

  test.each([
    ['short', REQUEST.slice(1)], ['not hex', `g${REQUEST.slice(1)}`], ['upper case', REQUEST.toUpperCase()], ['block 0', `${REQUEST} 0 0`], ['a sign', `${REQUEST} -1 0`],
    ['no index', `${REQUEST} 1`],
    ['a point', `${REQUEST} 1.5 0`], ['past what is exact', `${REQUEST} 9007199254740992 0`], ['far past it', `${REQUEST} 99999999999999999 0`], ['three numbers', `${REQUEST} 1 2 3`], ['something behind it', `${REQUEST} 1 0x`],
  ])('an origin that is none is not there: %s', (_, text) => {
    for (const read of bothWays({ 'cmesh-origin': text, traceparent: 't' })) expect(read).toEqual({ traceparent: 't' })
  })

  test('total: whatever bytes a block has', () => {
    fc.assert(fc.property(fc.base64String(), text => { saidByBlock(text) }))
    fc.assert(fc.property(fc.string(), text => { saidByBlock(Buffer.from(`\r\ncmesh-origin: ${text}\r\n`).toString('base64')) }))
  })
})
