import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import type { Action, Permission } from '../../cmtp/permission.ts'
import {
  ACTIONS, actionName, actionOf, allowedBy, compilePermissions, covers, formatPermission, formatPermissions, intersectPermissions,
  NEWCOMER_READ_SET, normalPermissions, OPERATOR_SET, parsePermission, parsePermissions, withoutCovered,
} from '../../cmtp/permission.ts'

// --- addresses and patterns over so few words that they often meet

const words = fc.constantFrom('a', 'b', 'audit', '0x001')
const leaf = fc.oneof(
  fc.tuple(fc.constantFrom('0xI', '0xIW', '0xR', '0xRW', '0xE', '0xEW', '0xC', '0xCW'),
  fc.array(words, { minLength: 1, maxLength: 3 })),
  fc.tuple(fc.constantFrom('0xS', '0xSW'), fc.tuple(fc.constantFrom('0x000', '0x001'),
  fc.array(words, { maxLength: 1 })).map(([contract, rest]) => [contract, ...rest])),
).map(([opcode, segments]) => [opcode, ...segments].join(':'))
const isAddress = (text: string): boolean => {
  try {
    return parseFqmn(text).text === text
  } catch {
    return false
  }
}
const address = fc.oneof(
  leaf, fc.tuple(fc.constantFrom('0xE', '0xE:audit', '0xP:a', '0xPW:b', '0xRW:a'), leaf).map(parts => parts.join(':')),
).filter(isAddress)
const withArguments = fc.tuple(address, fc.constantFrom('', ':["x"]')).map(parts => parts.join('')).filter(isAddress)

const opcodes = ['0xI', '0xIW', '0xR', '0xRW', '0xS', '0xSW', '0xE', '0xEW', '0xA', '0xC', '0xCW', '0xP', '0xPW']
const patternOf = (opcode: fc.Arbitrary<string>): fc.Arbitrary<string> => fc.oneof(
  fc.constant('>'),
  fc.tuple(opcode, fc.array(fc.oneof(words, fc.constantFrom('*', '0xS', '0xI')), { maxLength: 3 }), fc.boolean())
    .map(([first, rest, tail]) => [first, ...rest, ...(tail || rest.length === 0 ? ['>'] : [])].join(':')),
)
const pattern = patternOf(fc.constantFrom('*', ...opcodes))
const permissionOf = (patterns: fc.Arbitrary<string>): fc.Arbitrary<Permission> => fc.record({
  actions: fc.integer({ min: 1, max: 127 }), pattern: patterns,
})
const permissions = fc.array(permissionOf(pattern), { maxLength: 6 })
const action = fc.constantFrom<Action[]>(...Object.values(ACTIONS))

/** What the words above mean, said as plainly as possible. */
function naive(list: readonly Permission[], wanted: Action, text: string): boolean {
  const tokens = text.replace(/:\[.*$/, '').split(':')
  return list.some(({ actions, pattern: wild }) => {
    if ((actions & wanted) === 0) return false
    const parts = wild.split(':')
    if ((tokens[0] === '0xE' || tokens[0] === '0xEW') && tokens[1] === 'audit' && parts[1] !== 'audit') return false
    const tail = parts.at(-1) === '>'
    const fixed = tail ? parts.slice(0, -1) : parts
    if (tail ? tokens.length <= fixed.length : tokens.length !== fixed.length) return false
    return fixed.every((part, i) => part === '*' || part === tokens[i])
  })
}

function refusal(work: () => unknown): CMeshError {
  try {
    work()
  } catch (error) {
    return error as CMeshError
  }
  throw new Error('nothing was refused')
}

const may = (set: readonly Permission[], text: string): boolean => {
  const route = parseFqmn(text)
  return covers(compilePermissions(set), actionOf(route), route)
}

describe('a compiled set of permissions', () => {
  test('covers exactly what a naive reading of its patterns covers', () => {
    let met = 0
    fc.assert(fc.property(permissions, action, withArguments, (list, wanted, text) => {
      const expected = naive(list, wanted, text)
      if (expected) met++
      expect(covers(compilePermissions(list), wanted, parseFqmn(text))).toBe(expected)
    }), { numRuns: 5_000 })
    expect(met).toBeGreaterThan(500)
  })

  test('names a pattern of its own that covers by itself', () => {
    fc.assert(fc.property(permissions, action, address, (list, wanted, text) => {
      const route = parseFqmn(text)
      const found = allowedBy(compilePermissions(list), wanted, route)
      if (found !== undefined) expect(naive(list.filter(one => one.pattern === found), wanted, text)).toBe(true)
    }))
  })

  test('allows nothing when it is empty', () => {
    fc.assert(fc.property(
      action, address, (wanted, text) => { expect(covers(compilePermissions([]), wanted, parseFqmn(text))).toBe(false) },
    ))
  })

  test.each([
    ['0xS:0x001:>', '0xS:0x001:f', true], ['0xS:0x001:>', '0xS:0x001:f:["x"]', true], ['0xS:0x001:>', '0xS:0x001', false],
    ['0xS:0x001', '0xS:0x001', true], ['0xS:0x001', '0xS:0x001:f', false], ['0xS:*:f', '0xS:0x002:f', true],
    ['0xS:*:f', '0xS:0x002:g', false],
    ['0xS:>', '0xSW:0x001:f', false], ['0xE:0xR:a.mcom:>', '0xE:0xR:a.mcom:Moved', true],
    ['0xE:0xS:>', '0xE:0xR:a.mcom:Moved', false],
    ['0xP:east:0xS:>', '0xP:east:0xS:0x001:f', true], ['0xP:east:0xS:>', '0xP:west:0xS:0x001:f', false],
    ['*:whoami', '0xI:whoami', true], ['>', '0xC:status', true],
  ])('with the pattern %s reaches %s: %s', (wild, text, expected) => {
    const route = parseFqmn(text)
    expect(covers(compilePermissions([{ actions: 127, pattern: wild }]), actionOf(route), route)).toBe(expected)
  })

  test('reaches the audit channel by its name alone', () => {
    for (const wild of ['>', '0xE:>', '0xE:*', '*:*', '0xE:*:read', '*:>']) {
      expect(may([{ actions: 127, pattern: wild }], '0xE:audit')).toBe(false)
    }
    expect(may([{ actions: 1, pattern: '0xE:*:read' }], '0xE:audit:read')).toBe(false)
    expect(may([{ actions: 1, pattern: '0xE:audit:>' }], '0xE:audit:read')).toBe(true)
    expect(may([{ actions: 1, pattern: '*:audit' }], '0xE:audit')).toBe(true)
    expect(may([{ actions: 1, pattern: '0xE:>' }], '0xE:audits')).toBe(true)
  })

  test('lets no action stand for another', () => {
    const route = parseFqmn('0xSW:0x001:f')
    expect(covers(compilePermissions([{ actions: 127 & ~ACTIONS.write, pattern: '>' }]), actionOf(route), route)).toBe(false)
  })
})

describe('the action of an address', () => {
  test.each([
    ['0xS:0x001:f', 'read'], ['0xS:0x001', 'read'], ['0xS:0x000:deploy', 'read'], ['0xSW:0x001:f', 'write'],
    ['0xSW:0x001:deploy', 'write'], ['0xSW:0x000', 'write'],
    ['0xSW:0x000:deploy', 'deploy'], ['0xSW:0x000:replace', 'replace'], ['0xSW:0x000:proxy', 'proxy'],
    ['0xSW:0x000:deploys', 'write'],
    ['0xR:a.mcom', 'read'], ['0xR:a.mcom:0xSW:0x000:deploy', 'read'], ['0xRW:register:a.mcom:0xS:0x001', 'write'],
    ['0xE:c', 'read'], ['0xEW:c', 'write'],
    ['0xI:whoami', 'read'], ['0xIW:hangup', 'write'], ['0xC:status', 'read'], ['0xA:1:0x001:f', 'exec'],
    ['0xAW:1:0x001:f', 'exec'],
    ['0xP:east:0xSW:0x000:deploy', 'peer'], ['0xPW:east:0xS:0x001', 'peer'],
  ])('%s asks for %s', (text, name) => {
    expect(actionName(actionOf(parseFqmn(text)))).toBe(name)
  })

  test('has the bits of the design', () => {
    expect(ACTIONS).toEqual({ read: 1, write: 2, exec: 4, deploy: 8, proxy: 16, replace: 32, peer: 64 })
  })
})

describe('the text of a permission', () => {
  test('parses to what it was formatted from', () => {
    fc.assert(fc.property(
      permissionOf(pattern), permission => { expect(parsePermission(formatPermission(permission))).toEqual(permission) },
    ))
  })

  test('of a list parses to the list in normal form', () => {
    fc.assert(fc.property(
      permissions, list => { expect(parsePermissions(formatPermissions(list))).toEqual(normalPermissions(list)) },
    ))
  })

  test('is the name of a set when it is that set', () => {
    expect(formatPermissions([...NEWCOMER_READ_SET].reverse())).toEqual(['newcomer'])
    expect(formatPermissions(OPERATOR_SET)).toEqual(['operator'])
    expect(formatPermissions(NEWCOMER_READ_SET.slice(1))).toHaveLength(NEWCOMER_READ_SET.length - 1)
    expect(parsePermissions(['newcomer', 'write 0xSW:0x001:>']))
      .toEqual(normalPermissions([...NEWCOMER_READ_SET, { actions: 2, pattern: '0xSW:0x001:>' }]))
  })

  test('answers anything with a permission or a coded error', () => {
    fc.assert(fc.property(fc.oneof(fc.string(), fc.string().map(text => `read ${text}`),
    fc.string().map(text => `${text} 0xS:>`)), text => {
      let permission: Permission
      try {
        permission = parsePermission(text)
      } catch (error) {
        expect((error as CMeshError).code).toBe('CMESH_IAM_PERMISSION')
        return
      }
      expect(parsePermission(formatPermission(permission))).toEqual(permission)
    }), { numRuns: 1_000 })
  })

  test.each([
    ['', 'it has the form "action,action pattern"'], ['0xS:>', 'it has the form "action,action pattern"'],
    [' 0xS:>', 'it has the form "action,action pattern"'],
    ['rite 0xS:>', '"rite" is no action; there are read, write, exec, deploy, proxy, replace, peer'],
    ['read,read 0xS:>', '"read" stands there twice'],
    ['toString 0xS:>', '"toString" is no action; there are read, write, exec, deploy, proxy, replace, peer'],
    ['read 0xS', 'a pattern needs something behind the opcode'],
    ['read *', 'a pattern needs something behind the opcode'], ['read 0xS:>:a', '">" stands at the end only'],
    ['read 0xS::a', '"" is no token of an address'], ['read 0xS:a b', '"a b" is no token of an address'],
    ['read 0xS:a*', '"a*" is no token of an address'],
    ['read 0xX:>', 'a pattern begins with an opcode, "*" or ">"'], ['read s:>', 'a pattern begins with an opcode, "*" or ">"'],
  ])('"%s" is refused', (text, reason) => {
    expect(refusal(() => parsePermission(text)))
      .toMatchObject({ code: 'CMESH_IAM_PERMISSION', status: 400, message: `The permission ${text} is not valid: ${reason}.` })
  })

  test.each([0, 128, -1, 1.5, Number.NaN])('has no actions %d', actions => {
    expect(refusal(() => compilePermissions([{ actions, pattern: '>' }])).message)
      .toBe('The permission > is not valid: it has no action.')
  })

  test('comes at most 256 times in a list', () => {
    expect(refusal(() => parsePermissions(Array.from({ length: 257 }, () => 'newcomer'))).code).toBe('CMESH_IAM_PERMISSION')
  })
})

describe('what two lists allow together', () => {
  test('is never more than either allows', () => {
    fc.assert(fc.property(permissions, permissions, action, address, (a, b, wanted, text) => {
      if (naive(intersectPermissions(a, b), wanted, text)) {
        expect(naive(a, wanted, text)).toBe(true)
        expect(naive(b, wanted, text)).toBe(true)
      }
    }), { numRuns: 5_000 })
  })

  test('is all that both allow, where opcodes are written out', () => {
    const written = fc.array(permissionOf(patternOf(fc.constantFrom(...opcodes))), { maxLength: 6 })
    let met = 0
    fc.assert(fc.property(written, written, action, address, (a, b, wanted, text) => {
      const expected = naive(a, wanted, text) && naive(b, wanted, text)
      if (expected) met++
      expect(naive(intersectPermissions(a, b), wanted, text)).toBe(expected)
    }), { numRuns: 5_000 })
    expect(met).toBeGreaterThan(100)
  })

  test('is the list itself where the other allows everything', () => {
    const everything = parsePermissions(['operator', 'exec >'])
    expect(intersectPermissions(NEWCOMER_READ_SET, everything)).toEqual(NEWCOMER_READ_SET)
    expect(intersectPermissions(parsePermissions(['read >']), OPERATOR_SET).map(formatPermission)).toEqual(['read >'])
  })
})

describe('a list without what others of it cover', () => {
  test('allows the very same, in fewer entries', () => {
    fc.assert(fc.property(permissions, action, address, (list, wanted, text) => {
      const route = parseFqmn(text)
      const whole = normalPermissions(list)
      const short = withoutCovered(whole)
      expect(covers(compilePermissions(short), wanted, route)).toBe(covers(compilePermissions(whole), wanted, route))
      expect(whole).toEqual(expect.arrayContaining([...short]))
    }), { numRuns: 2_000 })
    const many = Array.from({ length: 80 }, (_, i) => `read 0xS:0x001:f${i}`)
    expect(formatPermissions(withoutCovered(parsePermissions(['read 0xS:>', ...many])))).toEqual(['read 0xS:>'])
  })
})

describe('the sets every mesh begins with', () => {
  test('let a newcomer read every service but the audit channel', () => {
    for (const text of [
      '0xS:0x001', '0xS:0x001:f:["x"]', '0xR:a.mcom', '0xR:resolve:a.mcom', '0xE:events.state:read', '0xE:0xR:a.mcom:Moved',
      '0xI:whoami', '0xC:tx:12',
    ]) {
      expect([text, may(NEWCOMER_READ_SET, text)]).toEqual([text, true])
    }
    for (const text of ['0xE:audit', '0xE:audit:read']) expect([text, may(NEWCOMER_READ_SET, text)]).toEqual([text, false])
  })

  test('let a newcomer hold names and end its session, and write nothing else', () => {
    for (const text of [
      '0xRW:register:a.mcom:0xS:0x001', '0xRW:update:a.mcom:0xS:0x001', '0xRW:transfer:a.mcom:z6Mk', '0xRW:renew:a.mcom',
      '0xRW:release:a.mcom', '0xIW:hangup', '0xIW:refresh',
    ]) {
      expect([text, may(NEWCOMER_READ_SET, text)]).toEqual([text, true])
    }
    for (const text of [
      '0xSW:0x001:f', '0xSW:0x000:deploy', '0xRW:a.mcom:f', '0xEW:c', '0xIW:grant', '0xIW:revoke', '0xP:east:0xS:0x001',
      '0xA:1:0x001:f', '0xCW:x',
    ]) {
      expect([text, may(NEWCOMER_READ_SET, text)]).toEqual([text, false])
    }
  })

  test('let the operator do everything but exec', () => {
    for (const text of [
      '0xS:0x001', '0xSW:0x001:f', '0xSW:0x000:deploy', '0xSW:0x000:replace', '0xSW:0x000:proxy', '0xRW:a.mcom:f', '0xEW:c',
      '0xE:audit', '0xE:audit:read', '0xIW:grant', '0xP:e:0xS:0x001',
    ]) {
      expect([text, may(OPERATOR_SET, text)]).toEqual([text, true])
    }
    expect(may(OPERATOR_SET, '0xA:1:0x001:f')).toBe(false)
  })

  test('cannot be changed', () => {
    expect(Object.isFrozen(NEWCOMER_READ_SET) && NEWCOMER_READ_SET.every(Object.isFrozen)).toBe(true)
    expect(Object.isFrozen(OPERATOR_SET) && OPERATOR_SET.every(Object.isFrozen)).toBe(true)
  })
})
