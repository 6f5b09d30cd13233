import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { LIMITS } from '../../cmtp/limits.ts'
import {
  channelOfSubject, controlSubject, decodeToken, encodeToken, EVENT_WILDCARD, eventSubject, HELLO_SUBJECT, helloSubject,
  MINE_SUBJECT, orderStoredSubject, orderSubject,
  REQUEST_WILDCARD, requestSubject, serviceSubject, sessionOfSubject,
} from '../../cmtp/subject.ts'

/** Whether the broker would deliver `subject` to a subscription of `pattern` (NATS: `*` is one token, `>` the rest). */
function matches(pattern: string, subject: string): boolean {
  const wanted = pattern.split('.')
  const given = subject.split('.')
  if (wanted.at(-1) !== '>' && wanted.length !== given.length) return false
  return wanted.every((token, i) => given[i] !== undefined && (token === '>' || token === '*' || token === given[i]))
}

const HOSTILE = [
  '', '.', '*', '>', 'a.b', 'a.*', 'a.>', ' ', 'a b', '\t', '\r\n', 'x\r\nPUB cmesh.v1.ctl.drain 0\r\n\r\n', '\u0000', '\u007f',
  '$SYS.REQ', '$JS.API.>',
  '_INBOX.>', '=', '==', '=2e', '=2E', '..', 'é', '\u2028', '😀', 'cmesh.v1.ctl', '../..', 'a.'.repeat(200),
]
const anyText = fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: fc.constantFrom(...'aZ0_-.*>= \r\n\t$é') }),
  fc.constantFrom(...HOSTILE))

describe('one token for any text', () => {
  test('every text comes back', () => {
    fc.assert(fc.property(anyText, text => {
      expect(decodeToken(encodeToken(text))).toBe(text)
    }), { numRuns: 2_000 })
  })

  test('a token is letters, digits, _ - and = alone, and never empty', () => {
    fc.assert(fc.property(anyText, text => {
      expect(encodeToken(text)).toMatch(/^[A-Za-z0-9_=-]+$/)
    }), { numRuns: 2_000 })
  })

  test('a text has one token, a token one text', () => {
    const anyToken = fc.oneof(fc.string({ unit: fc.constantFrom(...'aZ0_-=2eEfF.'), maxLength: 9 }),
      fc.string({ unit: 'binary', maxLength: 9 }))
    fc.assert(fc.property(anyToken, token => {
      const text = decodeToken(token)
      if (text !== undefined) expect(encodeToken(text)).toBe(token)
    }), { numRuns: 5_000 })
  })

  test.each([
    ['hello_World-7', 'hello_World-7'], ['', '='], ['.', '=2e'], ['a.b', 'a=2eb'], ['=', '=3d'], ['é', '=c3=a9'],
    ['\r\n', '=0d=0a'],
    ['*>', '=2a=3e'],
  ])('%j is %s', (text, token) => {
    expect(encodeToken(text)).toBe(token)
    expect(decodeToken(token)).toBe(text)
  })

  test.each([
    '', '=2E', '=2', '=zz', '=61', 'a=', '==', 'a.b', '*', '>', ' ', '=ff', '=c3', '=c0=af', '=ed=a0=80', 'é', '=2e ', '=-1',
    '=+1', '=0x',
  ])('no text has the token %j', token => {
    expect(decodeToken(token)).toBeUndefined()
  })

  test('the longest channel fits the line that NATS accepts', () => {
    expect(eventSubject('.'.repeat(LIMITS.channelBytes)).length).toBeLessThan(1_024)
  })
})

describe('subjects', () => {
  test('are spelled as the design says', () => {
    expect(requestSubject('s1')).toBe('cmesh.v1.req.s1')
    expect(helloSubject('node-1')).toBe('cmesh.v1.hello.node-1')
    expect(serviceSubject('state', 'call')).toBe('cmesh.v1.svc.state.call')
    expect(eventSubject('chat')).toBe('cmesh.v1.evt.chat')
    expect(eventSubject('events.state.contracts.0x001.blah_blah'))
      .toBe('cmesh.v1.evt.events=2estate=2econtracts=2e0x001=2eblah_blah')
    expect(controlSubject('drain', 'node.1')).toBe('cmesh.v1.ctl.drain.node=2e1')
    expect([orderSubject('a.b'), orderStoredSubject('CMESH_ORDER')]).toEqual(['cmesh.v1.order.a=2eb', 'cmesh.v1.order.CMESH_ORDER.stored'])
    expect([HELLO_SUBJECT, MINE_SUBJECT]).toEqual(['cmesh.v1.hello', 'cmesh.v1.mine'])
  })

  test('no text from a caller reaches another subject than its own', () => {
    const others = [HELLO_SUBJECT, MINE_SUBJECT, 'cmesh.v1.ctl.>', 'cmesh.v1.svc.>', '$SYS.>', '$JS.>', '_INBOX.>']
    fc.assert(fc.property(anyText, text => {
      for (const [subject, own] of [
        [requestSubject(text), REQUEST_WILDCARD], [eventSubject(text), EVENT_WILDCARD],
        [helloSubject(text), `${HELLO_SUBJECT}.*`],
        [serviceSubject('state', text), 'cmesh.v1.svc.state.*'], [serviceSubject(text, 'call'), 'cmesh.v1.svc.*.call'],
        [controlSubject(text, 'x'), 'cmesh.v1.ctl.*.x'],
        [orderSubject(text), 'cmesh.v1.order.*'], [orderStoredSubject(text), 'cmesh.v1.order.*.stored'],
      ] as const) {
        expect(subject).toMatch(/^[A-Za-z0-9_=.-]+$/)
        expect(matches(own, subject)).toBe(true)
        for (const other of others) {
          if (!own.startsWith(other.slice(0, -1))) expect([other, matches(other, subject)]).toEqual([other, false])
        }
      }
    }), { numRuns: 1_000 })
  })

  test('give back the session and the channel they were built from', () => {
    fc.assert(fc.property(anyText, text => {
      expect(sessionOfSubject(requestSubject(text))).toBe(text)
      expect(channelOfSubject(eventSubject(text))).toBe(text)
    }))
  })

  test.each([
    '', 'cmesh.v1.req', 'cmesh.v1.req.', 'cmesh.v1.req.a.b', 'cmesh.v1.req.*', 'cmesh.v1.req.>', 'cmesh.v2.req.a',
    'x.cmesh.v1.req.a',
    'cmesh.v1.evt.a',
  ])('%j is no request subject', subject => {
    expect(sessionOfSubject(subject)).toBeUndefined()
  })

  test.each([
    '', 'cmesh.v1.evt', 'cmesh.v1.evt.', 'cmesh.v1.evt.a.b', 'cmesh.v1.evt.>', 'cmesh.v1.req.a',
  ])('%j is no event subject', subject => {
    expect(channelOfSubject(subject)).toBeUndefined()
  })
})
