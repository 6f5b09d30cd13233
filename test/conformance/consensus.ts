/**
 * What every consensus provider keeps to (services/consensus/provider.ts). `create` gives a provider over a directory of its
 * own and an order of its own, which starts where `start` says.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import type {
  Committed, ConsensusProvider, ConsensusStatus, LogEntry, LogPosition, Proposal,
} from '../../services/consensus/provider.ts'

const START: LogPosition = { epoch: 0, seq: 0 }

const newId = (): string => randomBytes(16).toString('hex')

function proposal(part: Partial<Proposal> = {}): Proposal {
  return { id: newId(), data: Buffer.from('data'), deadlineMs: Date.now() + 30_000, ...part }
}

type Create = (dir: string) => ConsensusProvider | Promise<ConsensusProvider>

export function consensusConformance(name: string, create: Create): void {
  describe(`a ${name} consensus provider`, () => {
    let dir: string
    let providers: ConsensusProvider[]

    beforeEach(async () => {
      dir = await mkdtemp(join(tmpdir(), 'cmesh-consensus-'))
      providers = []
    })

    afterEach(async () => {
      for (const provider of providers) await provider.stop()
      await rm(dir, { recursive: true, force: true })
    })

    const make = async (): Promise<ConsensusProvider> => {
      const provider = await create(await mkdtemp(join(dir, 'node-')))
      providers.push(provider)
      return provider
    }

    const started = async (from: LogPosition = START): Promise<{ provider: ConsensusProvider, entries: LogEntry[] }> => {
      const provider = await make()
      const entries: LogEntry[] = []
      await provider.start(from, entry => entries.push(entry))
      return { provider, entries }
    }

    test('gives dense sequences from the position it starts behind, each delivered once and in order', async () => {
      const { provider, entries } = await started({ epoch: 2, seq: 41 })
      const proposals = Array.from({ length: 300 }, (_, i) => proposal({ data: Buffer.from(`data ${i}`) }))
      const committed = await Promise.all(proposals.map(each => provider.propose(each)))
      expect(entries.map(entry => entry.seq)).toEqual(Array.from({ length: 300 }, (_, i) => 42 + i))
      const at = new Map(entries.map(entry => [entry.id, entry]))
      proposals.forEach(({ id, data }, i) => {
        const { seq } = committed[i] as Committed
        expect(committed[i]).toEqual({ epoch: 2, seq, duplicate: false })
        expect(at.get(id)).toEqual({ epoch: 2, seq, id, data })
      })
    })

    test('delivers an entry before its proposal resolves', async () => {
      const { provider, entries } = await started()
      await provider.propose(proposal())
      expect(entries).toHaveLength(1)
    })

    test('one id gives one entry, proposed at once or again later', async () => {
      const { provider, entries } = await started()
      const once = proposal()
      const [first, second] = await Promise.all([provider.propose(once), provider.propose({ ...once })])
      expect(first).toEqual({ epoch: 0, seq: 1, duplicate: false })
      expect(second).toEqual({ epoch: 0, seq: 1, duplicate: true })
      await provider.propose(proposal())
      await expect(provider.propose({ ...once })).resolves.toEqual({ epoch: 0, seq: 1, duplicate: true })
      expect(entries.map(entry => entry.seq)).toEqual([1, 2])
    })

    test('however proposals are repeated and interleaved, each id has one entry and every answer names it', async () => {
      const rounds = fc.array(fc.array(fc.nat(9), { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 6 })
      await fc.assert(fc.asyncProperty(rounds, async picks => {
        const { provider, entries } = await started()
        const ids = Array.from({ length: 10 }, newId)
        for (const round of picks) {
          const answers = await Promise.all(round.map(pick => provider.propose(proposal({ id: ids[pick] as string }))))
          answers.forEach((answer, i) => {
            const matching = entries.filter(entry => entry.id === ids[round[i] as number])
            expect(matching).toEqual([expect.objectContaining({ seq: answer.seq })])
          })
        }
        expect(entries.map(entry => entry.seq)).toEqual(entries.map((_, i) => i + 1))
        await provider.stop()
      }), { numRuns: 10 })
    })

    test('delivery is never re-entrant: what `deliver` proposes comes after it returned', async () => {
      const provider = await make()
      const trace: string[] = []
      let nested: Promise<Committed> | undefined
      await provider.start(START, entry => {
        trace.push(`enter ${entry.seq}`)
        nested ??= provider.propose(proposal())
        trace.push(`leave ${entry.seq}`)
      })
      const outer = provider.propose(proposal())
      expect(trace).toEqual([])
      await outer
      await expect(nested).resolves.toEqual({ epoch: 0, seq: 2, duplicate: false })
      expect(trace).toEqual(['enter 1', 'leave 1', 'enter 2', 'leave 2'])
    })

    test('a proposal whose deadline has passed is refused and leaves no hole', async () => {
      const { provider, entries } = await started()
      const late = proposal({ deadlineMs: Date.now() - 1 })
      await expect(provider.propose(late)).rejects.toMatchObject({ code: 'CMESH_ROUTER_DEADLINE' })
      await expect(provider.propose(proposal())).resolves.toMatchObject({ seq: 1 })
      expect(entries).toHaveLength(1)
    })

    test('starts once, however often it is asked', async () => {
      const provider = await make()
      const entries: LogEntry[] = []
      const first = provider.start(START, entry => entries.push(entry))
      expect(provider.start({ epoch: 9, seq: 9 }, () => { throw new Error('not this one') })).toBe(first)
      await first
      await provider.propose(proposal())
      expect(entries.map(({ epoch, seq }) => [epoch, seq])).toEqual([[0, 1]])
    })

    test('a status reads as a Raft group: one leader, a majority as quorum, indexes that are where the log is', async () => {
      const { provider } = await started({ epoch: 1, seq: 10 })
      const seen: ConsensusStatus[] = [provider.status()]
      for (let i = 0; i < 40; i++) {
        await provider.propose(proposal())
        seen.push(provider.status())
      }
      seen.forEach((status, i) => {
        expect(status).toMatchObject({ epoch: 1, lastIndex: 10 + i, commitIndex: 10 + i })
        expect(status.members.filter(member => member.role === 'leader').map(member => member.id)).toEqual([status.leader])
        expect(status.quorum).toBe(Math.floor(status.members.length / 2) + 1)
        expect(status.members.every(member => member.matchIndex <= status.lastIndex)).toBe(true)
        const holding = status.members.filter(member => member.matchIndex >= status.commitIndex)
        expect(holding.length).toBeGreaterThanOrEqual(status.quorum)
        expect(status.term).toBeGreaterThanOrEqual(seen[i - 1]?.term ?? 1)
      })
      const leaders = new Map<number, string>()
      for (const { term, leader } of seen) {
        expect(leaders.get(term) ?? leader).toBe(leader)
        leaders.set(term, leader)
      }
    })

    test('draining settles what is under way and refuses what comes after', async () => {
      const { provider, entries } = await started()
      let settled = 0
      for (let i = 0; i < 20; i++) void provider.propose(proposal()).then(() => settled++)
      const drained = provider.drain()
      const refused = expect(provider.propose(proposal())).rejects.toMatchObject({ code: 'CMESH_ROUTER_DRAINING' })
      await drained
      expect(settled).toBe(20)
      await refused
      await provider.drain()
      expect(entries).toHaveLength(20)
    })

    test('stops more than once, drains with that, and does not start again', async () => {
      const { provider } = await started()
      const under = provider.propose(proposal())
      await Promise.all([provider.stop(), provider.stop()])
      await expect(under).resolves.toMatchObject({ seq: 1 })
      await expect(provider.propose(proposal())).rejects.toMatchObject({ code: 'CMESH_ROUTER_DRAINING' })
    })

    test('a proposal before the start is refused, and a stop before the start is no trouble', async () => {
      const provider = await make()
      await expect(provider.propose(proposal())).rejects.toMatchObject({ code: 'CMESH_ROUTER_NO_SERVICE' })
      await provider.stop()
      await expect(provider.start(START, () => {})).rejects.toMatchObject({ code: 'CMESH_ROUTER_DRAINING' })
    })
  })
}
