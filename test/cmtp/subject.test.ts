import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { LIMITS } from '../../cmtp/limits.ts'
import {
  CARRIED_WILDCARD, carriedSubject, channelOfSubject, connectionOfHello, controlSubject, decodeToken, encodeToken, EVENT_WILDCARD, eventSubject,
  HELLO_WILDCARD, helloNodeSubject, helloSubject, inboxPrefix, isReplyOf, MINE_WILDCARD, mineSubject, orderStoredSubject, orderSubject, originOfSubject,
  REQUEST_WILDCARD, requestSubject, serviceSubject, sessionOfMine, sessionOfSubject,
} from '../../cmtp/subject.ts'
import { runs } from '../support/runs.ts'

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
    }), { numRuns: runs(2_000) })
  })

  test('a token is letters, digits, _ - and = alone, and never empty', () => {
    fc.assert(fc.property(anyText, text => {
      expect(encodeToken(text)).toMatch(/^[A-Za-z0-9_=-]+$/)
    }), { numRuns: runs(2_000) })
  })

  test('a text has one token, a token one text', () => {
    const anyToken = fc.oneof(fc.string({ unit: fc.constantFrom(...'aZ0_-=2eEfF.'), maxLength: 9 }),
      fc.string({ unit: 'binary', maxLength: 9 }))
    fc.assert(fc.property(anyToken, token => {
      const text = decodeToken(token)
      if (text !== undefined) expect(encodeToken(text)).toBe(token)
    }), { numRuns: runs(5_000) })
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
    expect(carriedSubject('gate', 's1')).toBe('cmesh.v1.req.gate.s1')
    expect(helloSubject('UABC')).toBe('cmesh.v1.hello.UABC')
    expect(helloSubject('UABC', 'did:key:z6')).toBe('cmesh.v1.hello.UABC.did=3akey=3az6')
    expect(helloNodeSubject('did:key:z6')).toBe('cmesh.v1.hello.*.did=3akey=3az6')
    expect(mineSubject('s1')).toBe('cmesh.v1.mine.s1')
    expect(inboxPrefix('s1')).toBe('_INBOX.s1.')
    expect(serviceSubject('state', 'call')).toBe('cmesh.v1.svc.state.call')
    expect(eventSubject('chat')).toBe('cmesh.v1.evt.chat')
    expect(eventSubject('events.state.contracts.0x001.blah_blah'))
      .toBe('cmesh.v1.evt.events=2estate=2econtracts=2e0x001=2eblah_blah')
    expect(controlSubject('drain', 'node.1')).toBe('cmesh.v1.ctl.drain.node=2e1')
    expect([orderSubject('a.b'), orderStoredSubject('CMESH_ORDER')]).toEqual(['cmesh.v1.order.a=2eb', 'cmesh.v1.order.CMESH_ORDER.stored'])
  })

  test('no text from a caller reaches another subject than its own', () => {
    const others = [HELLO_WILDCARD, MINE_WILDCARD, 'cmesh.v1.ctl.>', 'cmesh.v1.svc.>', '$SYS.>', '$JS.>', '_INBOX.>']
    fc.assert(fc.property(anyText, text => {
      for (const [subject, own] of [
        [requestSubject(text), REQUEST_WILDCARD], [eventSubject(text), EVENT_WILDCARD],
        [carriedSubject(text, text), CARRIED_WILDCARD], [helloSubject(text), HELLO_WILDCARD], [helloSubject(text, text), helloNodeSubject(text)],
        [mineSubject(text), MINE_WILDCARD],
        [serviceSubject('state', text), 'cmesh.v1.svc.state.*'], [serviceSubject(text, 'call'), 'cmesh.v1.svc.*.call'],
        [controlSubject(text, 'x'), 'cmesh.v1.ctl.*.x'],
        [orderSubject(text), 'cmesh.v1.order.*'], [orderStoredSubject(text), 'cmesh.v1.order.*.stored'],
      ] as const) {
        const reached = others.filter(other => !own.startsWith(other.slice(0, -1)) && matches(other, subject))
        expect([subject, /^[A-Za-z0-9_=.-]+$/.test(subject), matches(own, subject), reached]).toEqual([subject, true, true, []])
      }
    }), { numRuns: 1_000 })
  })

  test('give back the channel they were built from', () => {
    fc.assert(fc.property(anyText, text => {
      expect(channelOfSubject(eventSubject(text))).toBe(text)
    }))
  })

  test('give back the sessions and the connection they were built from, which are plain tokens, and no other text', () => {
    const id = fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/)
    fc.assert(fc.property(id, id, (sid, via) => {
      expect(sessionOfSubject(requestSubject(sid))).toBe(sid)
      expect(originOfSubject(requestSubject(sid))).toEqual({ sid, via: undefined })
      expect(originOfSubject(carriedSubject(via, sid))).toEqual({ sid, via })
      expect([connectionOfHello(helloSubject(sid)), connectionOfHello(helloSubject(sid, 'did:key:z6'))]).toEqual([sid, sid])
      expect(sessionOfMine(mineSubject(sid))).toBe(sid)
    }))
    fc.assert(fc.property(anyText.filter(text => !/^[A-Za-z0-9_-]+$/.test(text)), text => {
      for (const subject of [requestSubject(text), carriedSubject('a', text), carriedSubject(text, 'a')]) expect(originOfSubject(subject)).toBeUndefined()
      const read = [sessionOfSubject(requestSubject(text)), connectionOfHello(helloSubject(text)), sessionOfMine(mineSubject(text))]
      expect(read).toEqual([undefined, undefined, undefined])
    }))
  })

  test('say of an inbox whose it is: of the connection it was built for, and of no other', () => {
    const id = fc.stringMatching(/^[A-Za-z0-9_-]{1,10}$/)
    fc.assert(fc.property(id, id, (one, other) => {
      expect([isReplyOf(one, `${inboxPrefix(one)}x`), isReplyOf(one, `${inboxPrefix(one)}a.b.7`)]).toEqual([true, true])
      expect(isReplyOf(one, inboxPrefix(one))).toBe(false)
      expect(isReplyOf(one, `${inboxPrefix(other)}x`)).toBe(one === other)
      expect(isReplyOf(one, `${inboxPrefix(one + other)}x`)).toBe(false)
    }))
    for (const reply of ['', '_INBOX', '_INBOX.', '_INBOX.a', '_INBOX.a.', '_INBOX.b.x', '_inbox.a.x', 'x_INBOX.a.x', 'cmesh.v1.req.a.x', '_INBOX..a.x']) {
      expect([reply, isReplyOf('a', reply)]).toEqual([reply, false])
    }
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
