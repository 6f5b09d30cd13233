/** Addresses for tests: built from the grammar, each with what it must parse to. */
import fc from 'fast-check'
import type { Route, ServiceLetter } from '../../cmtp/fqmn.ts'

export type Parts = Pick<Route, 'service' | 'write' | 'segments' | 'args'> & { readonly inner: Parts | undefined }

const ALPHABET = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-~^'
/** One segment. What reads as an opcode is left out: in front of a colon it is one. */
export const anySegment: fc.Arbitrary<string> = fc.string({ unit: fc.constantFrom(...ALPHABET), minLength: 1, maxLength: 16 })
  .filter(segment => !/^0x[IRSEACP]W?$/.test(segment))
const HEX = '0123456789abcdef'
export const anyContract: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: fc.constantFrom(...HEX), minLength: 3, maxLength: 3 }),
  fc.string({ unit: fc.constantFrom(...HEX), minLength: 64, maxLength: 64 }),
).map(hex => `0x${hex}`)

/** JSON array text, with white space where JSON allows it. */
export const anyArguments: fc.Arbitrary<string> =
  fc.array(fc.jsonValue({ maxDepth: 3, stringUnit: 'grapheme' }), { maxLength: 4 })
  .chain(value => fc.constantFrom(undefined, 0, 1, '\t').map(indent => JSON.stringify(value, null, indent)))

const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arbitrary, { nil: undefined })

/** An address with at most `depth` opcodes, each in the shape that it asks for. */
function addressOf(depth: number): fc.Arbitrary<Parts> {
  const write = fc.boolean()
  const plain = (service: ServiceLetter): fc.Arbitrary<Parts> => fc.record({
    service: fc.constant(service), write, segments: fc.array(anySegment, { minLength: 1, maxLength: 4 }),
    args: maybe(anyArguments), inner: fc.constant(undefined),
  })
  const call = (service: 'S' | 'A', head: fc.Arbitrary<string[]>): fc.Arbitrary<Parts> =>
    fc.tuple(write, head, anySegment, maybe(anyArguments))
    .map(([w, first, name, args]) => ({ service, write: w, segments: [...first, name], args, inner: undefined }))
  const state = fc.oneof(
    call('S', anyContract.map(contract => [contract])),
    fc.tuple(write, anyContract).map(([w, contract]): Parts =>
      ({ service: 'S', write: w, segments: [contract], args: undefined, inner: undefined })),
    call('A', fc.tuple(anySegment, anyContract)),
  )
  const leaves = fc.oneof(state, plain('I'), plain('R'), plain('E'), plain('C'))
  if (depth === 1) return leaves
  const nest = (service: ServiceLetter, minLength: number, maxLength: number): fc.Arbitrary<Parts> => fc.record({
    service: fc.constant(service), write, segments: fc.array(anySegment, { minLength, maxLength }),
    args: fc.constant(undefined), inner: addressOf(depth - 1),
  })
  return fc.oneof({ weight: 2, arbitrary: leaves }, nest('R', 1, 3), nest('E', 0, 2), nest('P', 1, 1), nest('I', 1, 2),
    nest('C', 1, 2))
}

export const anyAddress: fc.Arbitrary<Parts> = addressOf(3)
