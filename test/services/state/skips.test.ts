import { hash } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { checkSkip, signSkip, type EntryName, type Skip } from '../../../cmtp/skip.ts'
import { Skips } from '../../../services/state/skips.ts'
import { keptLog, type KeptLog } from '../../support/mesh.ts'
import { refusal } from '../../support/refusal.ts'
import { batchOf, entryOf, genesisTransaction, MEMBER, OPERATOR, replica, transactionOf, type Replica } from '../../support/replica.ts'

const DATA = Buffer.from('what no node can apply')
const GENESIS = batchOf([genesisTransaction()])
const ENTRY: EntryName = { mesh: MEMBER.did, operator: OPERATOR.did, epoch: 0, seq: 2, hash: hash('sha256', DATA, 'hex') }

/** A replica at sequence 1 that was given these skips, the log of what it says of them, and whether it passes the entry. */
async function given(...all: readonly Skip[]): Promise<{ readonly made: Replica, readonly log: KeptLog, readonly skips: Skips }> {
  const log = keptLog()
  const made = await replica({ passes: entry => skips.passes(entry) })
  const skips = new Skips({ kept: { all, halted: () => undefined, passed: () => undefined }, system: made.store.space('0x000'), log })
  made.next(GENESIS)
  return { made, log, skips }
}

describe('an entry is passed', () => {
  test('by the operator\'s skip: its block holds it and nothing else, not the time it claims, and has the same bytes whatever the reason', async () => {
    const data = batchOf([transactionOf('0xRW:a.b:register')], { proposedMs: 1_900_000_000_000 })
    const chains = new Set<string>()
    for (const reason of ['a bug', 'another word for it']) {
      const { made } = await given(signSkip({ ...ENTRY, hash: hash('sha256', data, 'hex') }, reason, OPERATOR))
      const { timeMs } = made.store.head
      expect(made.next(data)).toEqual([])
      expect(made.applied.at(-1)).toEqual({ epoch: 0, seq: 2, timeMs, message: data, transactions: [] })
      chains.add(Buffer.from(made.store.head.chain).toString('hex'))
    }
    expect(chains.size).toBe(1)
  })

  const stranger = KeyPair.generate()
  test.each<[string, Skip, string | undefined]>([
    ['by somebody else', signSkip({ ...ENTRY, operator: stranger.did }, 'mine', stranger), `${stranger.did} does not operate the mesh`],
    ['in another mesh', signSkip({ ...ENTRY, mesh: stranger.did }, 'elsewhere', OPERATOR), `it is for the mesh ${stranger.did}`],
    ['of other bytes', signSkip({ ...ENTRY, hash: '0'.repeat(64) }, 'other', OPERATOR), 'the entry has other bytes than it names'],
    ['changed behind the signature', { ...signSkip(ENTRY, 'a bug', OPERATOR), reason: 'another' }, `${OPERATOR.did} did not sign it`],
    ['of another place', signSkip({ ...ENTRY, seq: 3 }, 'later', OPERATOR), undefined],
    ['of another epoch', signSkip({ ...ENTRY, epoch: 1 }, 'later', OPERATOR), undefined],
  ])('by no skip %s, and it is said why', async (_, skip, reason) => {
    const { log, skips } = await given(skip)
    expect(skips.passes(entryOf(2, DATA))).toBe(false)
    expect(log.lines.map(({ fields }) => (fields as { readonly err?: Error }).err?.message)).toEqual(reason === undefined ? [] : [`The skip is refused: ${reason}.`])
  })
})

describe('a skip', () => {
  test('is signed by the operator alone, with a reason', () => {
    expect(refusal(() => signSkip(ENTRY, '', OPERATOR)).message).toBe('The skip is refused: its reason has not 1 to 300 characters.')
    expect(refusal(() => signSkip(ENTRY, 'mine', KeyPair.generate())).message).toMatch(/ operates the mesh, and .* was to sign\.$/)
    expect(checkSkip(JSON.parse(JSON.stringify(signSkip(ENTRY, 'a bug', OPERATOR))))).toEqual(signSkip(ENTRY, 'a bug', OPERATOR))
  })

  test.each<[string, unknown]>([
    ['nothing', undefined], ['no entry', { v: 1 }], ['another version', { ...signSkip(ENTRY, 'a bug', OPERATOR), v: 2 }],
    ['more than one', { ...signSkip(ENTRY, 'a bug', OPERATOR), more: 1 }], ['an unsigned one', { v: 1, ...ENTRY, reason: 'a bug' }],
  ])('is not %s', (_, value) => {
    expect(refusal(() => checkSkip(value)).code).toBe('CMESH_STATE_SKIP')
  })

  test('is put on record by a member once the entry is passed, and never over another', async () => {
    const { made } = await given()
    const skip = signSkip(ENTRY, 'a bug', OPERATOR)
    const record = (body: object, sub = MEMBER.did): number | undefined => made.next(batchOf([transactionOf('0xSW:0x000:skipped', { sub, body: Buffer.from(JSON.stringify(body)) })]))[0]?.status
    expect([record(skip), record(skip, OPERATOR.did), record(skip), record(signSkip(ENTRY, 'another', OPERATOR))]).toEqual([400, 403, 200, 200])
    expect(record(signSkip({ ...ENTRY, operator: MEMBER.did }, 'mine', MEMBER))).toBe(400)
    expect(JSON.parse(Buffer.from(made.store.space('0x000').get('skip/2') ?? '').toString())).toEqual(skip)
  })
})
