/**
 * How gas is counted, as an ordered record of the mesh: which rewriter, which table of costs, and how much one transaction may
 * use. A change is in force from the block behind the one that holds it, on every replica alike, whatever their software
 * would prefer.
 *
 * Invariant: whenever code runs for sequence `s`, the engine counts as the record says for `s`. A replica whose engine cannot
 * do so halts before it executes anything, since every result would be another than its peers'.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Space } from '../state/provider.ts'
import type { Recorder } from '../state/transaction.ts'
import type { ContractEngine, MeterVersions } from './provider.ts'

export interface MeterRecord extends MeterVersions {
  /** Most gas one transaction may use. */
  readonly transactionGas: number
}

/** One change, in force from sequence `from` on. */
export interface MeterChange extends MeterRecord {
  readonly from: number
}

const KEY = 'meter'

/** Every change, in order; empty before genesis. */
export function meterChanges(system: Pick<Space, 'get'>): readonly MeterChange[] {
  const bytes = system.get(KEY)
  return bytes === undefined ? [] : JSON.parse(Buffer.from(bytes).toString('utf8')) as MeterChange[]
}

/** Records a change; one for the same sequence takes the place of the one before. */
export function changeMeter(system: Recorder, change: MeterChange): void {
  const { from, meter, schedule, transactionGas } = change
  const others = meterChanges(system).filter(other => other.from !== from)
  system.setJson(KEY, [...others, { from, meter, schedule, transactionGas }])
}

export function isMeterKey(key: string): boolean {
  return key === KEY
}

export function meterText({ meter, schedule }: MeterVersions): string {
  return `meter ${meter} and schedule ${schedule}`
}

/** Throws `CMESH_DEPLOY_METER` where the engine cannot count by these versions. */
export function checkKnown(engine: Pick<ContractEngine, 'meters'>, versions: MeterVersions, since = '', advice = ''): void {
  if (engine.meters.some(({ meter, schedule }) => meter === versions.meter && schedule === versions.schedule)) return
  throw new CMeshError('CMESH_DEPLOY_METER', { asked: meterText(versions) + since, active: `no other than ${engine.meters.map(meterText).join(', ')}${advice}` })
}

export class Metering {
  readonly #engine: Pick<ContractEngine, 'meters' | 'meter' | 'useMeter'>
  readonly #system: Pick<Space, 'get'>
  #bytes: Uint8Array | undefined
  #active: MeterChange | undefined
  /** First sequence that `#active` does not hold for. */
  #until = 0

  constructor(engine: Pick<ContractEngine, 'meters' | 'meter' | 'useMeter'>, system: Pick<Space, 'get'>) {
    this.#engine = engine
    this.#system = system
  }

  /** Whether genesis has said how gas is counted. */
  get begun(): boolean {
    return this.#system.get(KEY) !== undefined
  }

  /**
   * What is in force at `seq`, for whose code the engine counts from now on. Throws `CMESH_DEPLOY_METER` where the engine does
   * not know how, and `CMESH_STATE_GENESIS` before genesis.
   */
  at(seq: number): MeterRecord {
    const active = this.#active
    const bytes = this.#system.get(KEY)
    if (active !== undefined && bytes === this.#bytes && seq >= active.from && seq < this.#until) return active
    return this.#look(seq, bytes)
  }

  #look(seq: number, bytes: Uint8Array | undefined): MeterRecord {
    const changes = meterChanges(this.#system)
    const index = changes.findLastIndex(change => change.from <= seq)
    const active = changes[index]
    if (active === undefined) throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'the log does not say how gas is counted' })
    checkKnown(this.#engine, active, ` from sequence ${active.from} on`, ': bring this node up to date')
    const { meter, schedule } = this.#engine.meter
    if (meter !== active.meter || schedule !== active.schedule) this.#engine.useMeter(active)
    this.#bytes = bytes
    this.#active = active
    this.#until = changes[index + 1]?.from ?? Infinity
    return active
  }
}
