import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { LIMITS } from '../../cmtp/limits.ts'
import {
  CARRIED_WILDCARD, carriedSubject, channelOfSubject, connectionOfHello, controlSubject, decodeToken, encodeToken, EVENT_WILDCARD, eventSubject,
  HELLO_SUBJECT, HELLO_WILDCARD, helloNodeSubject, helloSubject, inboxPrefix, isReplyOf, MINE_SUBJECT, MINE_WILDCARD, mineSubject, originOfSubject,
  REQUEST_WILDCARD, requestSubject, REVOKED_SUBJECT, serviceSubject, sessionOfMine, sessionOfSubject,
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
    expect(carriedSubject('gw', 's1')).toBe('cmesh.v1.req.gw.s1')
    expect(helloSubject('UABC')).toBe('cmesh.v1.hello.UABC')
    expect(helloSubject('UABC', 'node.1')).toBe('cmesh.v1.hello.UABC.node=2e1')
    expect(helloNodeSubject('node.1')).toBe('cmesh.v1.hello.*.node=2e1')
    expect(mineSubject('s1')).toBe('cmesh.v1.mine.s1')
    expect(inboxPrefix('s1')).toBe('_INBOX.s1.')
    expect([CARRIED_WILDCARD, HELLO_WILDCARD, MINE_WILDCARD, REVOKED_SUBJECT])
      .toEqual(['cmesh.v1.req.*.*', 'cmesh.v1.hello.*', 'cmesh.v1.mine.*', 'cmesh.v1.ctl.revoked'])
    expect(serviceSubject('state', 'call')).toBe('cmesh.v1.svc.state.call')
    expect(eventSubject('chat')).toBe('cmesh.v1.evt.chat')
    expect(eventSubject('events.state.contracts.0x001.blah_blah'))
      .toBe('cmesh.v1.evt.events=2estate=2econtracts=2e0x001=2eblah_blah')
    expect(controlSubject('drain', 'node.1')).toBe('cmesh.v1.ctl.drain.node=2e1')
    expect([HELLO_SUBJECT, MINE_SUBJECT]).toEqual(['cmesh.v1.hello', 'cmesh.v1.mine'])
  })

  test('no text from a caller reaches another subject than its own', () => {
    const others = [HELLO_SUBJECT, MINE_SUBJECT, 'cmesh.v1.ctl.>', 'cmesh.v1.svc.>', '$SYS.>', '$JS.>', '_INBOX.>']
    fc.assert(fc.property(anyText, text => {
      for (const [subject, own] of [
        [requestSubject(text), REQUEST_WILDCARD], [eventSubject(text), EVENT_WILDCARD],
        [helloSubject(text), HELLO_WILDCARD], [helloSubject(text, text), `${HELLO_WILDCARD}.*`], [helloSubject('U1', text), 'cmesh.v1.hello.U1.*'],
        [carriedSubject('s1', text), 'cmesh.v1.req.s1.*'], [carriedSubject(text, 's1'), 'cmesh.v1.req.*.s1'], [mineSubject(text), MINE_WILDCARD],
        [serviceSubject('state', text), 'cmesh.v1.svc.state.*'], [serviceSubject(text, 'call'), 'cmesh.v1.svc.*.call'],
        [controlSubject(text, 'x'), 'cmesh.v1.ctl.*.x'],
      ] as const) {
        expect(subject).toMatch(/^[A-Za-z0-9_=.-]+$/)
        expect(matches(own, subject)).toBe(true)
        for (const other of others) {
          if (!own.startsWith(other.slice(0, -1))) expect([other, matches(other, subject)]).toEqual([other, false])
        }
      }
    }), { numRuns: 1_000 })
  })

  test('give back the session, the connection and the channel they were built from', () => {
    fc.assert(fc.property(anyText, anyText, (text, other) => {
      expect(originOfSubject(requestSubject(text))).toEqual({ sid: text, via: undefined })
      expect(originOfSubject(carriedSubject(other, text))).toEqual({ sid: text, via: other })
      expect([connectionOfHello(helloSubject(text)), connectionOfHello(helloSubject(text, other))]).toEqual([text, text])
      expect(sessionOfMine(mineSubject(text))).toBe(text)
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
    '', 'cmesh.v1.req', 'cmesh.v1.req.', 'cmesh.v1.req.a.', 'cmesh.v1.req..a', 'cmesh.v1.req.a.b.c', 'cmesh.v1.req.*.a', 'cmesh.v1.req.a.>',
    'cmesh.v1.hello', 'cmesh.v1.hello.', 'cmesh.v1.hello.a.', 'cmesh.v1.hello..a', 'cmesh.v1.hello.a.b.c', 'cmesh.v1.hello.*', 'cmesh.v1.hello.a.>',
    'cmesh.v1.mine', 'cmesh.v1.mine.', 'cmesh.v1.mine.a.b', 'cmesh.v1.mine.*', 'x.cmesh.v1.mine.a',
  ])('%j says of nobody that it came from there', subject => {
    expect([originOfSubject(subject), connectionOfHello(subject), sessionOfMine(subject)]).toEqual([undefined, undefined, undefined])
  })

  test.each([
    ['_INBOX.s1.x', true], ['_INBOX.s1.x.7', true], ['_INBOX.s1.', false], ['_INBOX.s1', false], ['_INBOX.s12.x', false], ['_INBOX.s.1.x', false],
    ['_INBOX.s2.x', false], ['_INBOXs1.x', false], ['cmesh.v1.mine.s1', false], ['$JS.API.INFO', false], ['', false],
  ])('a reply to %j of connection s1 may go there: %j', (reply, may) => {
    expect(isReplyOf('s1', reply)).toBe(may)
    if (may) expect(reply.startsWith(inboxPrefix('s1'))).toBe(true)
  })

  test.each([
    '', 'cmesh.v1.evt', 'cmesh.v1.evt.', 'cmesh.v1.evt.a.b', 'cmesh.v1.evt.>', 'cmesh.v1.req.a',
  ])('%j is no event subject', subject => {
    expect(channelOfSubject(subject)).toBeUndefined()
  })
})
