import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { bundleToken, BundleWriter, decodeBundle, takesBundle } from '../../cmtp/bundle.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { encodeRequest, RequestFrame } from '../../cmtp/frame.ts'
import { refusal } from '../support/refusal.ts'

const frames = fc.array(fc.record({ token: fc.nat({ max: 0xffff_ffff }), frame: fc.uint8Array({ maxLength: 300 }) }), { minLength: 1, maxLength: 256 })

function bundled(replies: readonly { readonly token: number, readonly frame: Uint8Array }[], writer = new BundleWriter(1_048_576)): Buffer {
  for (const { token, frame } of replies) writer.add(token, frame)
  return writer.take()
}

const request = (bundle: boolean): Buffer => encodeRequest({ id: Buffer.alloc(16), fqmn: '0xC:status', token: Buffer.alloc(0), deadlineMs: 1, receipt: 'full', bundle })

describe('a bundle', () => {
  test('holds the replies that went in, in order, whatever went before', () => {
    const writer = new BundleWriter(1_048_576)
    fc.assert(fc.property(frames, replies => {
      expect(decodeBundle(bundled(replies, writer)).map(({ token, frame }) => ({ token, frame: Uint8Array.from(frame) }))).toEqual(replies)
      expect(writer.count).toBe(0)
    }), { seed: 7 })
  })

  test('is these bytes', () => {
    expect(bundled([{ token: 1, frame: Buffer.from('ab') }, { token: 0xffff_ffff, frame: Buffer.alloc(0) }]).toString('hex'))
      .toBe('434d000500000002' + '00000001000000026162' + 'ffffffff00000000')
  })

  test('of any bytes is replies that encode to them, or a coded refusal', () => {
    const damaged = fc.tuple(frames, fc.nat(), fc.nat({ max: 255 })).map(([replies, at, value]) => {
      const bytes = bundled(replies)
      bytes[at % bytes.length] = value
      return bytes
    })
    fc.assert(fc.property(fc.oneof(fc.uint8Array({ maxLength: 60 }), damaged), bytes => {
      try {
        expect(bundled(decodeBundle(bytes))).toEqual(Buffer.from(bytes))
      } catch (error) {
        if (!(error instanceof CMeshError)) throw error
        expect(error.code).toMatch(/^CMESH_FRAME_/)
      }
    }), { seed: 11, numRuns: 1_000 })
  })

  test.each([
    ['without replies', '434d000500000000', 'The frame is malformed at byte 6: expected at least one reply.'],
    ['of more than 256', '434d000500000101', 'The bundle has 257 bytes; at most 256 are allowed.'],
    ['with a reserved byte set', '434d000500010001', 'The frame is malformed at byte 4: expected two zero bytes.'],
    ['cut in a header', '434d00050000000100000001', 'The frame is malformed at byte 8: expected reply 0 of 1.'],
    ['cut in a reply', '434d0005000000010000000100000002ff', 'The frame is malformed at byte 12: expected reply 0 to lie within the bundle.'],
    ['with bytes behind it', '434d0005000000010000000100000000ff', 'The frame is malformed at byte 16: expected the end of the bundle.'],
    ['of another kind', '434d000200000001', 'The frame is malformed at byte 3: expected a bundle (kind 5).'],
  ])('%s is refused', (_, hex, message) => {
    expect(refusal(() => decodeBundle(Buffer.from(hex, 'hex'))).message).toBe(message)
  })

  test('takes 256 replies and as many bytes as it was made for, and no more', () => {
    const many = new BundleWriter(1_048_576)
    for (let i = 0; i < 256; i++) {
      expect(many.fits(10)).toBe(true)
      many.add(i, Buffer.alloc(10))
    }
    expect(many.fits(0)).toBe(false)
    const small = new BundleWriter(100)
    expect([small.fits(84), small.fits(85)]).toEqual([true, false])
    small.add(1, Buffer.alloc(84))
    expect(small.fits(0)).toBe(false)
    expect(small.take()).toHaveLength(100)
    expect(small.fits(84)).toBe(true)
  })
})

describe('a request', () => {
  test('says in its flags whether its reply may be bundled, beside the level it asks for', () => {
    expect([takesBundle(request(true)), takesBundle(request(false))]).toEqual([true, false])
    expect(RequestFrame.decode(request(true)).receipt).toBe('full')
  })

  test('alone takes a bundle: no other frame, and nothing that is too short to say so', () => {
    const batch = Buffer.from(request(true))
    batch[3] = 3
    expect([takesBundle(batch), takesBundle(request(true).subarray(0, 5)), takesBundle(Buffer.alloc(0))]).toEqual([false, false, false])
    for (const at of [0, 1, 2]) {
      const noise = Buffer.from(request(true))
      noise[at] = 0xff
      expect([at, takesBundle(noise)]).toEqual([at, false])
    }
  })

  test('names a number below 2^32 without leading zeros as the last token of its reply subject', () => {
    const tokenOf = (subject: string): number | undefined => bundleToken(subject, subject.lastIndexOf('.'))
    expect(['_INBOX.a.0', '_INBOX.a.17', '_INBOX.a.4294967295'].map(tokenOf)).toEqual([0, 17, 4_294_967_295])
    for (const bad of ['_INBOX.a.', '_INBOX.a.00', '_INBOX.a.01', '_INBOX.a.4294967296', '_INBOX.a.99999999999', '_INBOX.a.1a', '_INBOX.a.-1', '_INBOX.a.t1', '_INBOX.a.b']) {
      expect([bad, tokenOf(bad)]).toEqual([bad, undefined])
    }
  })
})
