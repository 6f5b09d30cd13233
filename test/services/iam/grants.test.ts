import { describe, expect, test } from '@jest/globals'
import { parseFqmn } from '../../../cmtp/fqmn.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { actionOf, compilePermissions, covers, formatPermissions, NEWCOMER_READ_SET, OPERATOR_SET, type Permission } from '../../../cmtp/permission.ts'
import { GrantBook } from '../../../services/iam/grant-book.ts'
import { NODE_SET, parseGrants } from '../../../services/iam/grants.ts'
import type { Records } from '../../../services/iam/records.ts'

const may = (permissions: readonly Permission[], fqmn: string): boolean => {
  const route = parseFqmn(fqmn)
  return covers(compilePermissions(permissions), actionOf(route), route)
}

/** One address of each kind, with what the operator, the node and a newcomer may do with it. */
const RIGHTS: readonly (readonly [fqmn: string, operator: boolean, node: boolean, newcomer: boolean])[] = [
  ['0xS:0x001:hello_world', true, true, true],
  ['0xR:resolve:x.mcom', true, true, true],
  ['0xR:x.mcom:f', true, true, true],
  ['0xE:chan', true, true, true],
  ['0xE:events.mined:tail', true, true, true],
  ['0xI:whoami', true, true, true],
  ['0xC:status', true, true, true],
  ['0xIW:refresh', true, true, true],
  ['0xIW:hangup', true, true, true],
  ['0xRW:register:x.mcom:0xS:0x001', true, true, true],
  ['0xRW:release:x.mcom', true, true, true],
  ['0xSW:0x002:increment', true, true, false],
  ['0xSW:0x001:say', true, false, false],
  ['0xSW:0x000:deploy', true, false, false],
  ['0xSW:0x000:replace', true, false, false],
  ['0xEW:chan:x', true, false, false],
  ['0xE:audit', true, false, false],
  ['0xIW:grant:x', true, false, false],
  ['0xP:peer:0xS:0x001', true, false, false],
  ['0xA:1:0x001:f', false, false, false],
]

const noRecords = (): Records => new Map()

describe('before anybody granted anything', () => {
  const book = new GrantBook({ records: noRecords, node: 'did:node', operator: 'did:operator' })

  test.each(RIGHTS)('%s is for the operator %s, the node %s, a newcomer %s', (fqmn, operator, node, newcomer) => {
    expect([may(book.grantsOf('did:operator'), fqmn), may(book.grantsOf('did:node'), fqmn), may(book.grantsOf('did:anyone'), fqmn)]).toEqual([operator, node, newcomer])
  })

  test('the sets are the same arrays each time, so that what was compiled of them is shared', () => {
    expect(book.grantsOf('did:a')).toBe(NEWCOMER_READ_SET)
    expect(book.grantsOf('did:b')).toBe(book.grantsOf('did:a'))
    expect(book.grantsOf('did:node')).toBe(NODE_SET)
    expect(book.grantsOf('did:operator')).toBe(OPERATOR_SET)
  })
})

test('once state is open the operator is the one that genesis recorded, and the one configured is nobody special', () => {
  const records = new Map<string, Uint8Array>()
  const book = new GrantBook({ records: () => records, node: 'did:node', operator: 'did:configured' })
  expect(book.operator).toBe('did:configured')
  records.set('genesis', Buffer.from(JSON.stringify({ operator: 'did:recorded', members: ['did:node'] })))
  expect(book.operator).toBe('did:recorded')
  expect(book.grantsOf('did:recorded')).toBe(OPERATOR_SET)
  expect(book.grantsOf('did:configured')).toBe(NEWCOMER_READ_SET)
})

test('a node that operates itself holds every right', () => {
  expect(new GrantBook({ records: noRecords, node: 'did:one', operator: 'did:one' }).grantsOf('did:one')).toBe(OPERATOR_SET)
})

describe('the text of the configuration', () => {
  const [ONE, TWO] = [KeyPair.generate().did, KeyPair.generate().did]
  const granted = parseGrants(` ${ONE} = deploy 0xSW:0x000:deploy | write 0xSW:> ;; ${TWO}=operator;`)

  test('is as many permissions as are written, and none where nothing is', () => {
    expect([...granted.keys()]).toEqual([ONE, TWO])
    expect(formatPermissions(granted.get(ONE) ?? [])).toEqual(['deploy 0xSW:0x000:deploy', 'write 0xSW:>'])
    expect(formatPermissions(granted.get(TWO) ?? [])).toEqual(['operator'])
    expect(parseGrants('').size).toBe(0)
  })
})
