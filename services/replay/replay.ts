/**
 * Runs again what receipts say was run, and compares. Views run on the state behind the block that they saw; transactions run in the block that
 * holds them, from what the log has of them, on what those before them left.
 *
 * What is compared, of the hop that touched state: status, gas, the result; of a transaction also its writes and events, which the receipt binds
 * by the position behind its block, and that the log has the request that was made; of an event that was told, that its transaction emits it. Of the
 * Registrar: what the name stood for.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn, type Route } from '../../cmtp/fqmn.ts'
import { decodeHeaders, headerValue } from '../../cmtp/headers.ts'
import { argumentsOf, errorReply, type Reply } from '../call.ts'
import type { ContractResult } from '../contracts/provider.ts'
import { contractReply, systemReply } from '../contracts/system-reads.ts'
import { contractEventChannel } from '../events/channel.ts'
import { Resolver } from '../registrar/resolver.ts'
import { RegistrarService } from '../registrar/service.ts'
import type { Block, EmittedEvent, TransactionRecord } from '../state/provider.ts'
import { STATE_READS, valueAsked, valueReply } from '../state/state-reads.ts'
import { SYSTEM_SPACE } from '../state/transaction.ts'
import { failedView, VIEW_GAS, type ViewRun } from '../state/view-run.ts'
import { notReplayable, type Asked, type ToldEvent } from './asked.ts'
import { compared, Differences, type Comparison } from './comparison.ts'
import { grouped } from './grouped.ts'
import type { Past, RunAgain } from './past.ts'

export interface ReplayOptions {
  /** Most gas a view may use where it ran. Default 2,000,000. */
  readonly viewGas?: number | undefined
}

/** What a view came to, and the gas of the code that ran. */
interface Viewed {
  readonly reply: Pick<Reply, 'status' | 'body'>
  readonly gas: number | undefined
}

type RunOne = (run: ViewRun) => ContractResult

export class Replay {
  readonly #past: Past
  readonly #resolver: Resolver
  readonly #viewGas: number

  constructor(past: Past, { viewGas = VIEW_GAS }: ReplayOptions = {}) {
    this.#past = past
    this.#resolver = new Resolver(past.space(SYSTEM_SPACE))
    this.#viewGas = viewGas
  }

  /** A view, on the state that it saw. Throws `CMESH_RECEIPT_NOT_REPLAYABLE`, and what says that code cannot be run. */
  view(asked: Asked): Comparison {
    const { witness, hop } = asked
    if (witness === undefined) throw notReplayable('its witness is missing')
    const target = this.#target(asked)
    const { args } = parseFqmn(witness.fqmn)
    const route = parseFqmn(args === undefined ? hop.fqmn : `${hop.fqmn}:${args}`)
    const viewed = this.#past.views(view => this.#viewed(route, witness.requestBody, asked, view))
    return compared(asked, layer => {
      if (layer.hop === 'registrar' && layer.target !== undefined) return targets(layer.target, target)
      if (layer !== hop) return undefined
      const differences = new Differences()
      differences.add('status', hop.status, viewed.reply.status)
      // An answer that the node had kept cost its layer no gas; what it had cost is told in the reply.
      const gas = hop.gas === 0n ? headerValue(decodeHeaders(witness.replyHeaders), 'x-cmesh-gas') : String(hop.gas)
      differences.add('gas', gas ?? '0', String(viewed.gas ?? 0))
      differences.bytes('result', witness.replyBody, viewed.reply.body)
      return differences
    })
  }

  /** Transactions of the block that comes next. `done` is told each comparison, in the order of the block; what the block does not hold is never told. */
  block(block: Block, wanted: readonly Asked[], done: (asked: Asked, comparison: Comparison) => void): void {
    // Names were looked up before the block: what changes in it changed later.
    const asked = grouped(wanted.map(one => ({ one, target: this.#target(one) })), ({ one }) => one.tx)
    this.#past.block(block, id => asked.has(id), run => {
      for (const { one, target } of asked.get(run.recorded.id) ?? []) {
        done(one, compared(one, layer => {
          if (layer === one.hop) return one.told === undefined ? ofTransaction(one, run) : ofEvent(one.told, run.replayed.events)
          return layer.hop === 'registrar' && layer.target !== undefined ? targets(layer.target, target) : undefined
        }))
      }
    })
  }

  /** An event of a transaction that its block does not hold. */
  unheld(asked: Asked, told: ToldEvent): Comparison {
    return compared(asked, layer => (layer === asked.hop ? ofEvent(told, []) : undefined))
  }

  /** What the name that was asked for stands for; `undefined` where none was, or where nobody says which. */
  #target({ witness, told }: Asked): string | undefined {
    // The event was read some time after its block: which names there were then nobody has written down.
    const asked = witness === undefined || told !== undefined ? undefined : parseFqmn(witness.fqmn)
    if (asked === undefined || !RegistrarService.isByName(asked)) return undefined
    try {
      return this.#resolver.resolve(asked, this.#past.head.timeMs).bare
    } catch (error) {
      if (error instanceof CMeshError && error.retry !== 'bug') return error.code
      throw error
    }
  }

  #viewed(route: Route, body: Uint8Array, asked: Asked, view: RunOne): Viewed {
    try {
      return this.#answer(route, body, asked, view)
    } catch (error) {
      if (!(error instanceof CMeshError) || error.retry === 'bug' || error.code === 'CMESH_RECEIPT_NOT_REPLAYABLE') throw error
      return { reply: errorReply(error), gas: undefined }
    }
  }

  #answer(route: Route, body: Uint8Array, asked: Asked, view: RunOne): Viewed {
    const { engine, space, head } = this.#past
    const [contract = '', name] = route.segments
    const system = space(SYSTEM_SPACE)
    if (name === undefined) return { reply: contractReply(system, engine, contract), gas: undefined }
    if (contract === SYSTEM_SPACE) {
      if (name === 'get') {
        const { key, contract: of } = valueAsked(route)
        return { reply: valueReply({ head, space }, of, key), gas: undefined }
      }
      if (STATE_READS.includes(name) || name === 'dryrun' || name === 'later') throw notReplayable(`${route.bare} tells of more than the state of that moment`)
      return { reply: systemReply(system, name, route), gas: undefined }
    }
    const result = view({ contract, function: name, input: () => argumentsOf({ route, body }), caller: asked.receipt.sub, gasLimit: this.#limitOf(asked) })
    return { reply: result.ok ? { status: 200, body: result.output } : failedView(result), gas: result.gas }
  }

  /** A call that failed was charged all that it might use, unless it was the contract that refused: so it says how much that was. */
  #limitOf({ hop, witness }: Asked): number {
    if (hop.status < 400 || hop.gas === 0n) return this.#viewGas
    const { code } = errorIn(witness?.replyBody ?? new Uint8Array())
    return code === 'CMESH_CONTRACT_REVERT' || code === 'CMESH_CONTRACT_NO_FUNCTION' ? this.#viewGas : Number(hop.gas)
  }
}

function targets(recorded: string, replayed: string | undefined): Differences | undefined {
  if (replayed === undefined) return undefined
  const differences = new Differences()
  differences.add('target', recorded, replayed)
  return differences
}

function ofTransaction({ hop, receipt, witness }: Asked, { transaction, recorded, replayed }: RunAgain): Differences {
  const differences = new Differences()
  const route = parseFqmn(transaction.fqmn)
  differences.add('request', receipt.sub, transaction.sub)
  // The Registrar puts names into their normal form before they are ordered.
  if (route.service === 'S') {
    differences.add('request', hop.fqmn, route.bare)
    if (witness !== undefined) {
      differences.add('request', parseFqmn(witness.fqmn).args, route.args)
      differences.bytes('request', witness.requestBody, transaction.body)
    }
  }
  differences.add('status', hop.status, replayed.status)
  differences.add('gas', String(hop.after === undefined ? recorded.gas : hop.gas), String(replayed.gas))
  if (witness === undefined) differences.bytes('result', recorded.output, replayed.output)
  else differences.bytes('result', witness.replyBody, replyOf(replayed))
  differences.writes(recorded.writes, replayed.writes)
  differences.events(recorded.events, replayed.events)
  return differences
}

function ofEvent(told: ToldEvent, emitted: readonly EmittedEvent[]): Differences {
  const differences = new Differences()
  const event = emitted[told.index]
  differences.told(told, event && { channel: contractEventChannel(event.contract, event.topic), data: event.data })
  return differences
}

/** The body of the reply to a transaction. */
function replyOf({ status, output }: TransactionRecord): Uint8Array {
  if (status < 400) return output
  return errorReply(errorIn(output)).body
}

function errorIn(body: Uint8Array): CMeshError {
  try {
    return CMeshError.fromWire(JSON.parse(Buffer.from(body).toString('utf8')))
  } catch (cause) {
    return CMeshError.from(cause, 'a recorded reply')
  }
}
