/**
 * What happens to bytes on their way: flipped bits, cuts, insertions, swapped runs. Every decoder must give a value or a
 * coded error for each, and never read past the end.
 */
import { expect } from '@jest/globals'
import fc from 'fast-check'
import { attempt, type Outcome, type Refusal } from './refusal.ts'

/** The bytes with each single bit flipped in turn. */
export function* everyBitFlip(bytes: Uint8Array): Generator<Buffer> {
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes)
    flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
    yield flipped
  }
}

/** Every proper prefix, the empty one included. */
export function* everyTruncation(bytes: Uint8Array): Generator<Buffer> {
  for (let length = 0; length < bytes.length; length++) yield Buffer.from(bytes.subarray(0, length))
}

/** One to four random injuries to one of the bytes that `source` gives, or noise alone. */
export function damaged(source: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Buffer> {
  const injury = fc.record({
    kind: fc.constantFrom('set', 'cut', 'insert', 'remove', 'repeat'),
    // Not a double: of those that fast-check makes nine in ten are next to nothing.
    at: fc.noBias(fc.nat(0xffff_ffff)).map(n => n / 2 ** 32),
    noise: fc.uint8Array({ minLength: 1, maxLength: 6 }),
  })
  const injured = fc.tuple(source, fc.array(injury, { minLength: 1, maxLength: 4 })).map(([bytes, injuries]) => {
    let result = Buffer.from(bytes)
    for (const { kind, at, noise } of injuries) {
      const from = Math.floor(at * result.length)
      const [head, tail] = [result.subarray(0, from), result.subarray(from)]
      switch (kind) {
        case 'set': result = Buffer.concat([head, noise, tail.subarray(noise.length)]); break
        case 'cut': result = Buffer.from(head); break
        case 'insert': result = Buffer.concat([head, noise, tail]); break
        case 'remove': result = Buffer.concat([head, tail.subarray(noise.length)]); break
        default: result = Buffer.concat([head, tail.subarray(0, noise.length), tail])
      }
    }
    return result
  })
  return fc.oneof({ weight: 9, arbitrary: injured },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 128 }).map(bytes => Buffer.from(bytes)) })
}

/**
 * Decodes, and holds a refusal to the rules all decoders share: a code of `area`, a message with every blank filled, and an
 * offset, where there is one, within the bytes.
 */
export function decodeTotally<B extends Uint8Array, T>(decode: (bytes: B) => T, bytes: B, area = /^CMESH_FRAME_/): Outcome<T> {
  const outcome = attempt(() => decode(bytes))
  const broken = outcome.refusal === undefined ? [] : brokenRules(outcome.refusal, bytes.length, area)
  // An `expect` costs more than any decoder, and there are many thousands of refusals.
  if (broken.length > 0) expect(broken).toEqual([])
  return outcome
}

function brokenRules({ code, message, detail: { offset } }: Refusal, length: number, area: RegExp): string[] {
  return [
    ...(area.test(code) ? [] : [`the code ${code} is not of ${String(area)}`]),
    ...(/\{\w+\}|undefined|NaN/.test(message) ? [`the message has a blank: ${message}`] : []),
    ...(offset === undefined || (typeof offset === 'number' && offset >= 0 && offset <= length) ? [] : [`the offset ${String(offset)} is not within ${length} bytes`]),
  ]
}
