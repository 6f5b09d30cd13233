/** Replicas that give blocks over a real bus: an honest one, and ones whose answers a test makes up. */
import type { NatsBus } from '../../providers/bus/nats.ts'
import { SILENT_LOG } from '../../services/log.ts'
import { BlockServer, blocksSubject } from '../../services/state/catch-up/server.ts'
import { decodeQuestion, encodeAnswer, type Answer, type Question } from '../../services/state/catch-up/wire.ts'
import type { ReplicaLog, StateStore } from '../../services/state/provider.ts'

export interface Giver {
  /** Sequences of which blocks were asked for, in order. */
  readonly asked: number[]
  stop(): Promise<void>
}

/** Gives what a store holds; `onRead` sees each question for blocks before it is answered. */
export function honestGiver(bus: NatsBus, did: string, store: StateStore, onRead: (from: number) => Promise<void> | void = () => {}): Giver {
  const kept = store.replica as ReplicaLog
  const asked: number[] = []
  const replica: ReplicaLog = {
    chainAt: seq => kept.chainAt(seq), hold: () => kept.hold(), markDiverged: note => kept.markDiverged(note), taken: kept.taken,
    read: async (from, to, bytes) => {
      asked.push(from)
      await onRead(from)
      return kept.read(from, to, bytes)
    },
  }
  const server = new BlockServer({ bus, did, replica, head: () => store.head, log: SILENT_LOG })
  server.start()
  return { asked, stop: () => server.stop() }
}

/** What a store would answer. */
async function answerOf(store: StateStore, question: Question): Promise<Answer> {
  const { head } = store
  const replica = store.replica as ReplicaLog
  if (question.kind === 'heads') return { kind: 'heads', did: '', head }
  if (question.kind === 'chains') {
    return { kind: 'chains', chains: await Promise.all(Array.from({ length: question.count }, (_, i) => replica.chainAt(question.first + i * question.step))) }
  }
  return { kind: 'blocks', blocks: await replica.read(question.seq, question.to, question.bytes) }
}

export type Twist = (answer: Answer, question: Question) => Answer | Uint8Array | undefined

/** Says that it is there as far as the store goes, and answers everything else with what `twist` makes of the true answer; `undefined` is silence. */
export function hostileGiver(bus: NatsBus, did: string, store: StateStore, twist: Twist): Giver {
  const asked: number[] = []
  const heads = bus.subscribe(blocksSubject(), ({ reply }) => {
    bus.publish(reply, encodeAnswer({ kind: 'heads', did, head: store.head }))
  })
  const own = bus.subscribe(blocksSubject(did), ({ data, reply }) => {
    const question = decodeQuestion(data)
    if (question.kind === 'blocks') asked.push(question.seq)
    void answerOf(store, question).then(answer => {
      const twisted = twist(answer, question)
      if (twisted !== undefined) bus.publish(reply, twisted instanceof Uint8Array ? twisted : encodeAnswer(twisted))
    })
  })
  return {
    asked,
    stop: () => {
      heads.unsubscribe()
      own.unsubscribe()
      return Promise.resolve()
    },
  }
}
