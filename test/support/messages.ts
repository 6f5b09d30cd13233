/** Fields of CMTP messages for property tests, within every limit. */
import fc from 'fast-check'
import type { HeaderList } from '../../cmtp/headers.ts'
import type { ReceiptLevel } from '../../cmtp/wire.ts'

export const anyMessageId: fc.Arbitrary<Uint8Array> = fc.uint8Array({ minLength: 16, maxLength: 16 })
export const anyLevel: fc.Arbitrary<ReceiptLevel> = fc.constantFrom('hash', 'none', 'full')
export const anyTime: fc.Arbitrary<number> =
  fc.oneof(fc.maxSafeNat(), fc.integer({ min: 1_700_000_000_000, max: 1_900_000_000_000 }))
export const anyBytes: fc.Arbitrary<Uint8Array> = fc.uint8Array({ maxLength: 64 })
export const anyToken: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.constant(new Uint8Array()),
  fc.stringMatching(/^[A-Za-z0-9_-]{4,40}\.[A-Za-z0-9_-]{4,40}\.[A-Za-z0-9_-]{4,40}$/).map(text => Buffer.from(text)),
)
export const anyFqmn: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom('0xS:0x001:blah_blah', '0xR:helloWorldExample.mcom', '0xE:events.state.contracts.0x001.blah_blah:read'),
  fc.string({ unit: 'binary', maxLength: 40 }),
)
/** 32 bytes, one per character. */
export const anyHash: fc.Arbitrary<string> = fc.uint8Array({ minLength: 32, maxLength: 32 })
  .map(bytes => Buffer.from(bytes).toString('latin1'))
export const anyStatus: fc.Arbitrary<number> = fc.integer({ min: 100, max: 599 })

const anyHeaderName = fc.oneof(
  fc.constantFrom('accept', 'content-type', 'etag', 'retry-after', 'x-cmesh-target', 'x-request-id'),
  fc.stringMatching(/^[a-z0-9!#$%&'*+\-.^_`|~]{1,20}$/),
)
export const anyHeaders: fc.Arbitrary<HeaderList> =
  fc.array(fc.tuple(anyHeaderName, fc.string({ unit: 'binary', maxLength: 20 })), { maxLength: 6 })
