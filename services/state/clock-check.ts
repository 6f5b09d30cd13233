/**
 * Whether this node's clock may be written into the log. Log time never goes back, so what a wrong clock pushes ahead stays there: a clock that
 * went ahead all at once, or is not that of the other members, orders nothing until it is right.
 *
 * What a node starts with counts: nobody but the other members could tell that it is wrong. So where they have to confirm what is ordered, nothing is
 * until it has heard them. Time that the machine slept is no jump.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Clock } from '../clock.ts'
import { AHEAD_MS } from './other-member.ts'
import { STEP_MS } from './log-time.ts'

export interface ClockCheckParts {
  /** Without `steadyMs` no jump is seen. */
  readonly clock: Pick<Clock, 'nowMs' | 'steadyMs' | 'awakeMs'>
  /** By how much this clock is ahead of that of each other member that is there, ms. */
  readonly offsets: () => readonly number[]
  /** How many members, this one among them, confirm what is ordered; 0 where none has to. */
  readonly quorum: () => number
  /** Time of the last block, where writes wait for other members; they claim nothing that is ahead of their clocks. */
  readonly shared: () => number | undefined
}

interface Anchor {
  readonly nowMs: number
  readonly steadyMs: number
  readonly awakeMs: number
}

export class ClockCheck {
  readonly #parts: ClockCheckParts
  #anchor: Anchor | undefined
  #hasHeard = false

  constructor(parts: ClockCheckParts) {
    this.#parts = parts
  }

  /** Whether this clock could be held against those of as many members as confirm what is ordered; once it could it is so for good. */
  readonly hasHeard = (): boolean => {
    const { offsets, quorum } = this.#parts
    const needed = quorum()
    this.#hasHeard ||= needed > 0 && offsets().length + 1 >= needed
    return this.#hasHeard || needed === 0
  }

  /**
   * `CMESH_STATE_CLOCK` while this clock is not that of so many other members as make a quorum: they tell better than this node what is too late. Not of most that are
   * there, as where something is to be ordered: one alone may say what it likes, and who reads would have to go elsewhere for it.
   */
  readonly apart = (): CMeshError | undefined => {
    const wrong = this.#wrong()
    const needed = this.#parts.quorum()
    return needed > 0 && wrong.length >= needed ? apartFrom(wrong) : undefined
  }

  /** Throws `CMESH_STATE_CLOCK`. */
  readonly check = (): void => {
    const { clock, offsets, shared } = this.#parts
    if (!this.hasHeard()) throw refused('it has not been held against those of a quorum of the members since the node started')
    const wrong = this.#wrong()
    if (2 * wrong.length > offsets().length) throw apartFrom(wrong)
    const aheadMs = this.#jump(offsets().length > 0)
    if (aheadMs > STEP_MS) throw refused(`it went ahead by ${Math.round(aheadMs / 1_000)} s at once`)
    const logMs = shared()
    if (logMs !== undefined && logMs - clock.nowMs() > AHEAD_MS) throw refused(`it is ${seconds(clock.nowMs() - logMs)} of the log, and no member confirms what is ahead of its clock`)
  }

  #wrong(): readonly number[] {
    return this.#parts.offsets().filter(offset => Math.abs(offset) > AHEAD_MS)
  }

  /** How far the clock has gone ahead of time itself since it was last found to be right. `known`: others have the same time. */
  #jump(known: boolean): number {
    const { nowMs, steadyMs, awakeMs } = this.#parts.clock
    if (steadyMs === undefined) return 0
    const [now, steady] = [nowMs(), steadyMs()]
    const anchor = this.#anchor ?? { nowMs: now, steadyMs: steady, awakeMs: awakeMs?.() ?? 0 }
    let aheadMs = now - anchor.nowMs - (steady - anchor.steadyMs)
    // Asked only then: it costs a look at the system.
    if (aheadMs > STEP_MS && awakeMs !== undefined) aheadMs = now - anchor.nowMs - (awakeMs() - anchor.awakeMs)
    if (aheadMs > STEP_MS && !known) {
      this.#anchor = anchor
      return aheadMs
    }
    // A clock that goes a little faster than this one is none that jumps.
    if (this.#anchor === undefined || steady - anchor.steadyMs > STEP_MS || Math.abs(aheadMs) > STEP_MS / 2) {
      this.#anchor = { nowMs: now, steadyMs: steady, awakeMs: awakeMs?.() ?? 0 }
    }
    return 0
  }
}

function apartFrom([offset = 0]: readonly number[]): CMeshError {
  return refused(`it is ${seconds(offset)} of the other members`)
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_STATE_CLOCK', { reason })
}

function seconds(aheadMs: number): string {
  return `${Math.round(Math.abs(aheadMs) / 1_000)} s ${aheadMs > 0 ? 'ahead' : 'behind that'}`
}
