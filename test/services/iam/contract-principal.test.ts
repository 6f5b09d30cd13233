import { expect, test } from '@jest/globals'
import { parseFqmn } from '../../../cmtp/fqmn.ts'
import { contractRefusal } from '../../../services/iam/contract-principal.ts'

const SELF = `0x${'ab'.repeat(32)}`
const OTHER = `0x${'12'.repeat(32)}`
const EVENTS = `a contract publishes on channels that begin with contracts.${SELF}. alone, not on`

test.each([
  `0xS:${OTHER}:look`, `0xSW:${OTHER}:pay:["x"]`, `0xSW:${SELF}:again`, `0xEW:contracts.${SELF}.paid`, '0xE:prices.gold:read',
  '0xR:shop.mesh', '0xR:shop.mesh:look', '0xC:tx:00', '0xI:me',
])('a contract may ask for %s', (fqmn) => {
  expect(contractRefusal(SELF, parseFqmn(fqmn))).toBeUndefined()
})

test.each([
  ['0xSW:0x000:meter:[1,1]', '0xSW:0x000:meter belongs to the system contract'],
  ['0xS:0x000:versions', '0xS:0x000:versions belongs to the system contract'],
  ['0xEW:prices.gold', `${EVENTS} 0xEW:prices.gold`],
  [`0xEW:contracts.${OTHER}.paid`, `${EVENTS} 0xEW:contracts.${OTHER}.paid`],
  [`0xEW:contracts.${SELF}x`, `${EVENTS} 0xEW:contracts.${SELF}x`],
  [`0xEW:0xR:contracts.${SELF}.x`, `${EVENTS} 0xEW:0xR:contracts.${SELF}.x`],
  ['0xEW:events.mined', `${EVENTS} 0xEW:events.mined`],
  ['0xE:audit', 'a contract may not read 0xE:audit'],
  ['0xE:prices.gold:tail', 'a contract cannot follow a channel'],
  ['0xIW:hangup', 'a contract may not write to 0xIW:hangup'],
  ['0xRW:register:shop.mesh', 'a contract may not write to 0xRW:register:shop.mesh'],
  ['0xRW:shop.mesh:pay', 'a contract may not write to 0xRW:shop.mesh:pay'],
  [`0xA:latest:${OTHER}:pay`, `a contract may not read 0xA:latest:${OTHER}:pay`],
  ['0xP:peer:0xC:head', 'a contract may not read 0xP:peer:0xC:head'],
])('a contract may not ask for %s', (fqmn, reason) => {
  expect(contractRefusal(SELF, parseFqmn(fqmn))).toBe(reason)
})
