/** The arguments of views as bytes that are used again. */
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { formatFqmn, parseFqmn, type Route } from '../../../cmtp/fqmn.ts'
import { argumentsOf } from '../../../services/call.ts'
import { ArgumentBytes } from '../../../services/state/argument-bytes.ts'
import { refusal } from '../../support/refusal.ts'

const NOTHING = new Uint8Array(0)

function routeOf(args: string | undefined): Route {
  return parseFqmn(formatFqmn({ service: 'S', write: false, segments: ['0x001', 'get'], args, inner: undefined }))
}

test('are those of the call, and nothing of the call before', () => {
  const bytes = new ArgumentBytes()
  const text = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 40 }), fc.integer({ min: 90, max: 4_000 }).map(length => 'x'.repeat(length)))
  const args = fc.option(fc.array(text, { maxLength: 3 }).map(values => JSON.stringify(values)), { nil: undefined })
  fc.assert(fc.property(args.filter(value => value === undefined || Buffer.byteLength(value) < 4_080), (value) => {
    const call = { route: routeOf(value), body: NOTHING }
    expect(Buffer.from(bytes.of(call))).toEqual(Buffer.from(argumentsOf(call)))
  }))
})

test('are the body where the address has none, and refused where both have some', () => {
  const bytes = new ArgumentBytes()
  const body = Buffer.from('["a"]')
  expect(bytes.of({ route: routeOf(undefined), body })).toBe(body)
  expect(refusal(() => bytes.of({ route: routeOf('["b"]'), body }))).toMatchObject({ code: 'CMESH_FQMN_ARGUMENTS_TWICE' })
})
