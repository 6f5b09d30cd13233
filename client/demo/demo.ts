/**
 * Runs the demo: a mesh of its own, the steps in order with a line for each, the report. The mesh is gone when it resolves or
 * rejects, whatever happened.
 */
import { withProgress, type Progress } from '../cli/progress.ts'
import type { Terminal } from '../cli/terminal.ts'
import { grouped } from '../grouped.ts'
import { Ledger } from './ledger.ts'
import type { DemoOutcome } from './report.ts'
import { Sandbox } from './sandbox.ts'
import { contract, events, load, names, receipts, restart, withoutReceipt, type StepParts } from './steps.ts'

export interface DemoRun {
  readonly outcome: DemoOutcome
  readonly ledger: Ledger
}

/** `count`: requests of the load. Rejects when a step cannot be made at all; what only fails an expectation is in the ledger. */
export async function runDemo(terminal: Terminal, count: number): Promise<DemoRun> {
  const beganMs = performance.now()
  const ledger = new Ledger()
  const signal = terminal.interrupted
  const sandbox = await Sandbox.create({ env: terminal.env, interrupted: signal, onNote: (line) => terminal.note(line) })
  const step = <T>(text: string, work: (progress: Progress) => Promise<T>, says: (result: T) => string): Promise<T> =>
    told(terminal, text, work, says)
  try {
    const { did: mesh } = await step('boot a mesh of one node', (progress) => sandbox.startNode((name) => progress.update(`booting: ${name}`)), ({ url }) => url)
    const client = await step('shake hands', () => sandbox.connect(), ({ did }) => `as ${did}`)
    const parts = (progress: Progress): StepParts => ({ sandbox, client, ledger, progress, signal })

    const nameOutcomes = await step('register names', (progress) => names(parts(progress)), (list) => list.map(({ status }) => status).join(', '))
    const spam = await step(`send ${grouped(count)} requests from a client process`, (progress) => load(parts(progress), count),
      ({ perSecond, rawPerSecond, ratio }) => `${grouped(perSecond)}/s, bare NATS ${grouped(rawPerSecond ?? 0)}/s, ratio ${ratio}`)
    const deployed = await step('compile, deploy and call a contract', (progress) => contract(parts(progress)), ({ calls }) => `${calls.length} calls`)
    const eventsOutcome = await step('publish and read events', (progress) => events(parts(progress)), ({ published, read }) => `${published} published, ${read} read`)
    await step('ask without a final hash', (progress) => withoutReceipt(parts(progress)), () => 'none came')
    const receiptsOutcome = await step('take receipts and check them without the mesh', (progress) => receipts(parts(progress), mesh, deployed.address),
      ({ asked, held, forged }) => `${held} of ${asked} hold, ${forged} with one bit changed`)
    const { survived, call } = await step('stop the node and start it again', (progress) => restart(parts(progress), deployed.address),
      (result) => (result.survived ? 'state is still there' : 'state is gone'))

    ledger.expect('every reply carries its final hash', ledger.hashes === ledger.replies, `${ledger.hashes} of ${ledger.replies}`)
    const outcome: DemoOutcome = {
      spam, names: nameOutcomes, contract: { address: deployed.address, calls: [...deployed.calls, call], survivedRestart: survived },
      events: eventsOutcome, receipts: receiptsOutcome, durationMs: Math.round(performance.now() - beganMs),
    }
    return { outcome, ledger }
  } finally {
    await withProgress(terminal, 'removing the mesh', () => sandbox.close())
  }
}

/** Runs one step and says on a line of its own how it went. */
async function told<T>(
  terminal: Terminal, text: string, work: (progress: Progress) => Promise<T>, says: (result: T) => string,
): Promise<T> {
  const beganMs = performance.now()
  const took = (): string => terminal.styleNote('dim', `${((performance.now() - beganMs) / 1_000).toFixed(1)} s`)
  try {
    const result = await withProgress(terminal, text, work)
    terminal.note(`${terminal.styleNote('green', terminal.messagesAreSeen ? '✔' : 'ok')} ${text}: ${says(result)} ${took()}`)
    return result
  } catch (error) {
    if (!terminal.interrupted.aborted) terminal.note(`${terminal.styleNote('red', terminal.messagesAreSeen ? '✘' : 'failed')} ${text} ${took()}`)
    throw error
  }
}
