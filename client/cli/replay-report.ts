/** What replaying receipts came to, for a person: one whole, of several what is not as it was. `node/archive/replay.ts` makes it. */
import type { WireError } from '../../cmtp/errors.ts'
import { grouped } from '../grouped.ts'
import { fields } from './command.ts'
import { EXIT } from './exit-codes.ts'
import { hopTree } from './hop-tree.ts'
import { table } from './table.ts'
import type { Terminal } from './terminal.ts'

export interface ReplayAsk {
  readonly dir: string
  readonly files: readonly string[]
  readonly witness?: string
  readonly code?: { readonly file: string, readonly contract?: string }
  readonly viewGas?: number
}

interface Difference {
  readonly part: string
  readonly recorded: unknown
  readonly replayed: unknown
}

interface Compared {
  readonly file: string
  readonly verdict: 'identical' | 'differs'
  readonly id: string
  readonly address: string
  /** Whether its witness was there. */
  readonly witnessed: boolean
  /** The block that a view ran behind, or that holds the transaction. */
  readonly seq: number
  readonly layers: readonly { readonly hop: string, readonly address: string, readonly outcome: string }[]
  /** Index of the first layer that differs. */
  readonly layer?: number
  readonly differences: readonly Difference[]
}

interface NotReplayed {
  readonly file: string
  readonly verdict: 'none'
  readonly error: WireError
}

export interface ReplayAnswer {
  readonly receipts: readonly (Compared | NotReplayed)[]
  readonly blocks: number
}

export interface ReplayCounts {
  readonly identical: number
  readonly differ: number
  /** Of those, the ones in which only gas does. */
  readonly gasOnly: number
  readonly none: number
}

/** Receipts that are told of one by one. */
const TOLD = 10
/** Of a value that differs. */
const VALUE_LENGTH = 200

export function countsOf({ receipts }: ReplayAnswer): ReplayCounts {
  const count = (fits: (receipt: ReplayAnswer['receipts'][number]) => boolean): number => receipts.filter(fits).length
  return {
    identical: count(({ verdict }) => verdict === 'identical'), differ: count(({ verdict }) => verdict === 'differs'), gasOnly: count(isGasOnly),
    none: count(({ verdict }) => verdict === 'none'),
  }
}

/** 1 where something differs, 2 where something could not be replayed. */
export function replayExit({ differ, none }: ReplayCounts): number {
  if (differ > 0) return EXIT.refused
  return none > 0 ? EXIT.usage : EXIT.ok
}

export function replayLines(terminal: Terminal, answer: ReplayAnswer): string[] {
  const [only, ...more] = answer.receipts
  if (only !== undefined && more.length === 0) return oneLines(terminal, only)
  const { identical, differ, none } = countsOf(answer)
  return [
    ...told(terminal, answer.receipts.filter(({ verdict }) => verdict !== 'identical')),
    `${grouped(answer.receipts.length)} receipts: ${grouped(identical)} identical, ${grouped(differ)} differ, ${grouped(none)} cannot be replayed`,
  ]
}

/** The same for other code in a contract's place: how much a call costs is told beside what it comes to. */
export function dryReplayLines(terminal: Terminal, answer: ReplayAnswer): string[] {
  const { identical, differ, gasOnly, none } = countsOf(answer)
  const gas = answer.receipts.filter(isCompared).flatMap(({ differences }) => differences.filter(({ part }) => part === 'gas'))
  const sum = (side: 'recorded' | 'replayed'): string => grouped(gas.reduce((all, difference) => all + Number(difference[side]), 0))
  return [
    ...told(terminal, answer.receipts.filter((receipt) => receipt.verdict !== 'identical' && !isGasOnly(receipt))),
    ...fields(terminal, [
      ['receipts', grouped(answer.receipts.length)],
      ['as before', `${grouped(identical + gasOnly)}, of which ${grouped(gasOnly)} for other gas`],
      ['otherwise', differ === gasOnly ? '0' : terminal.style('yellow', grouped(differ - gasOnly))],
      ['not run', grouped(none)],
      ['gas', gas.length === 0 ? 'the same' : `${sum('recorded')} then, ${sum('replayed')} now, in the ${grouped(gas.length)} calls where it differs`],
    ]),
  ]
}

/** Those that differ one by one; those that cannot be replayed by why, since that is mostly the same for many. */
function told(terminal: Terminal, receipts: ReplayAnswer['receipts']): string[] {
  const differ = receipts.filter(isCompared)
  const lines = differ.slice(0, TOLD).map((receipt) => `${receipt.file}: ${verdictLine(terminal, receipt)}`)
  if (differ.length > TOLD) lines.push(`… and ${grouped(differ.length - TOLD)} more that differ; --json has all`)
  const reasons = new Map<string, { readonly file: string, count: number }>()
  for (const receipt of receipts) {
    if (isCompared(receipt)) continue
    const line = verdictLine(terminal, receipt)
    const reason = reasons.get(line)
    if (reason === undefined) reasons.set(line, { file: receipt.file, count: 1 })
    else reason.count++
  }
  for (const [line, { file, count }] of [...reasons].slice(0, TOLD)) lines.push(`${file}${count === 1 ? '' : ` and ${grouped(count - 1)} more`}: ${line}`)
  return lines
}

function oneLines(terminal: Terminal, receipt: ReplayAnswer['receipts'][number]): string[] {
  if (receipt.verdict === 'none') return [verdictLine(terminal, receipt)]
  const { id, seq, layers, witnessed } = receipt
  const rows = hopTree(layers.length).map(({ at, branch }) => {
    const { hop = '', address = '', outcome = '' } = layers[at] ?? {}
    return [`${branch}${hop}`, address, outcome === 'differs' ? terminal.style('red', outcome) : outcome]
  })
  return [
    ...fields(terminal, [
      ['message', id], ['replayed', `at block ${seq}${witnessed ? '' : ', without a witness: from what the log has of it'}`],
    ]),
    ...table(rows, { boxes: terminal.resultsAreSeen, head: ['hop', 'address', 'replay'] }),
    verdictLine(terminal, receipt),
  ]
}

function verdictLine(terminal: Terminal, receipt: ReplayAnswer['receipts'][number]): string {
  if (receipt.verdict === 'none') return `${terminal.style('yellow', 'not replayed')}: ${receipt.error.code}: ${terminal.foreign(receipt.error.message)}`
  const { layer, layers, differences } = receipt
  if (layer === undefined) return terminal.style('green', 'identical')
  const parts = differences.map(({ part, recorded, replayed }) => `${part} ${value(terminal, recorded)} recorded, ${value(terminal, replayed)} replayed`)
  return `layer ${layer} (${layers[layer]?.hop ?? ''}) ${terminal.style('red', 'differs')}: ${parts.join('; ')}`
}

function value(terminal: Terminal, given: unknown): string {
  const text = typeof given === 'string' ? given : JSON.stringify(given) ?? 'nothing'
  return terminal.foreign(text.length <= VALUE_LENGTH ? text : `${text.slice(0, VALUE_LENGTH)}…`)
}

function isCompared(receipt: ReplayAnswer['receipts'][number]): receipt is Compared {
  return receipt.verdict !== 'none'
}

function isGasOnly(receipt: ReplayAnswer['receipts'][number]): boolean {
  return receipt.verdict === 'differs' && receipt.differences.every(({ part }) => part === 'gas')
}
