/**
 * What follows from the log beside the spaces themselves: contracts that are installed, their messages that somebody has to carry, and
 * delayed calls that somebody has to make. It is taken up once from the state that was read back, and then from each durable block.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { Courier } from '../contracts/courier.ts'
import { installDeployed } from '../contracts/deployments.ts'
import { readGenesis } from '../contracts/genesis.ts'
import { messageIdOf, pendingMessages, readMessage } from '../contracts/messages.ts'
import type { Metering } from '../contracts/metering.ts'
import { contractKeys, isContractKey } from '../contracts/records.ts'
import { laterIdOf, pendingLater, readLater } from '../later/records.ts'
import { LaterRunner } from '../later/runner.ts'
import type { Block, Space } from './provider.ts'
import type { StateServiceParts, StateStats } from './service-parts.ts'
import { SYSTEM_SPACE } from './transaction.ts'
import type { Writes } from './writes.ts'

export interface LogEffectsParts extends Pick<StateServiceParts, 'store' | 'engine' | 'clock' | 'log' | 'deliver' | 'later'> {
  readonly space: (name: string) => Space
  readonly system: Space
  readonly metering: Metering
  /** Whether this node does what one of the members has to do for all of them. */
  readonly onDuty: () => boolean
  readonly orderOwn: Writes['orderOwn']
  /** Contracts are counted here. */
  readonly stats: Pick<StateStats, 'contracts'>
}

const noService = (service: string): CMeshError => new CMeshError('CMESH_ROUTER_NO_SERVICE', { service })

export class LogEffects {
  readonly courier: Courier
  readonly later: LaterRunner
  readonly #parts: LogEffectsParts
  /** Keys of the contracts there are. */
  readonly #deployed = new Set<string>()

  constructor(parts: LogEffectsParts) {
    const { clock, log, onDuty, orderOwn, system } = parts
    this.#parts = parts
    this.courier = new Courier({
      read: id => readMessage(system, id),
      deliver: message => parts.deliver?.(message) ?? Promise.reject(noService('router')),
      // Each try is a transaction of its own: that there is one answer is the message's doing, which the first takes out.
      answer: (id, delivered) => orderOwn(`0xSW:${SYSTEM_SPACE}:answer:${JSON.stringify([id])}`, delivered),
      onDuty, clock, log,
    })
    const nobody = (): never => { throw noService('router') }
    this.later = new LaterRunner({
      read: id => readLater(system, id), call: nobody, bury: nobody, ...parts.later,
      settle: id => orderOwn(`0xSW:${SYSTEM_SPACE}:settled:${JSON.stringify([id])}`),
      onDuty, clock, log,
    })
  }

  /** Takes up what the log amounts to, which was read back. Throws `CMESH_STATE_GENESIS` for a log that no gas was counted in. */
  install(): void {
    const { store, engine, metering, space, system } = this.#parts
    // Before anything is compiled: what is compiled counts gas as the log says.
    if (metering.begun) metering.at(store.head.seq + 1)
    else if (readGenesis(system) !== undefined) throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'the log is of a version before gas was counted' })
    installDeployed(engine, system, space)
    for (const key of contractKeys(system)) this.#deployed.add(key)
    this.#count()
    for (const id of pendingMessages(system)) this.courier.add(id)
    for (const later of pendingLater(system)) this.later.add(later)
  }

  /** Takes up a durable block: hands its messages to the courier, its delayed calls to their runner, and counts what was deployed. */
  takeUp(block: Block): void {
    for (const transaction of block.transactions) {
      for (const { space, key, value } of transaction.writes) {
        if (space !== SYSTEM_SPACE) continue
        const id = value === undefined ? undefined : messageIdOf(key)
        if (id !== undefined) this.courier.add(id)
        if (isContractKey(key)) this.#deployed.add(key)
        this.#follow(laterIdOf(key), value !== undefined)
      }
    }
    this.later.advance(block.timeMs)
    this.#count()
  }

  halt(): void {
    this.courier.halt()
    this.later.halt()
  }

  async stop(): Promise<void> {
    await Promise.all([this.courier.stop(), this.later.stop()])
  }

  #count(): void {
    this.#parts.stats.contracts = this.#deployed.size
  }

  #follow(id: string | undefined, kept: boolean): void {
    if (id === undefined) return
    const later = kept ? readLater(this.#parts.system, id) : undefined
    if (later === undefined) this.later.over(id)
    else this.later.add(later)
  }
}
