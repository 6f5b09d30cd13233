/** An event as a reply tells it, read back: whole where it is one, and nothing made up of what is none. */
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { eventJson, readEventJson } from '../../../services/events/event-json.ts'
import type { MeshEvent } from '../../../services/events/provider.ts'

const request = '00112233445566778899aabbccddeeff'
const read = (value: unknown): ReturnType<typeof readEventJson> => readEventJson(Buffer.from(JSON.stringify(value)))

describe('an event as JSON', () => {
  test('is read back as it was: its bytes, and what it came from', () => {
    const origins = fc.constantFrom(undefined, { request }, { request, block: 1, index: 0 }, { request, block: Number.MAX_SAFE_INTEGER, index: 7 })
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), origins, (data, origin) => {
      const event: MeshEvent = { channel: 'c', seq: 1, timeMs: 1, data, ...(origin !== undefined && { origin }) }
      const { data: again, origin: from } = read(eventJson(event))
      expect([Buffer.from(again ?? []).equals(data), from]).toEqual([true, origin])
    }))
  })

  test.each<[string, unknown]>([
    ['a number', 1], ['null', null], ['text', 'x'], ['nothing in it', {}], ['data that is a number', { data: 1 }], ['base64 that is none', { data: { base64: 1 } }],
    ['an origin that is text', { origin: request }], ['a short request', { origin: { request: request.slice(1) } }], ['upper case', { origin: { request: request.toUpperCase() } }],
  ])('of %s there is nothing', (_, value) => {
    expect(read(value)).toEqual({ data: undefined, origin: undefined })
  })

  test.each<[string, object]>([
    ['block 0', { block: 0, index: 0 }], ['a fraction', { block: 1.5, index: 0 }], ['text', { block: '1', index: 0 }], ['no index', { block: 1 }], ['an index below 0', { block: 1, index: -1 }],
  ])('a place in the log that is none is not there: %s', (_, place) => {
    expect(read({ origin: { request, ...place } }).origin).toEqual({ request })
  })

  test('total: any bytes', () => {
    fc.assert(fc.property(fc.oneof(fc.uint8Array(), fc.json().map(text => Buffer.from(text))), bytes => { readEventJson(bytes) }))
  })
})
