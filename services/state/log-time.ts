/**
 * The time of the log: what each block's is, by its batch and the blocks before it alone. It never goes back, and a block is ahead of the one
 * before by 60 s at most, or by twice what that one was: so one batch of a wrong clock costs a minute, while a mesh that stood still for a
 * month is back in its time after some sixteen batches, which `ticks.ts` orders. Batches of before version 3 move it as far as they say.
 */

/** How far ahead of the block before the first of several steps takes the log, ms. */
export const STEP_MS = 60_000

export interface TimeStep {
  /** Time of the block before, ms since 1970; and by how much it was ahead of its own. */
  readonly beforeMs: number
  readonly stepMs: number
  /** The proposer's clock. */
  readonly proposedMs: number
}

/** The time of a block whose batch is of version 3 or later. */
export function timeBehind({ beforeMs, stepMs, proposedMs }: TimeStep): number {
  return Math.max(beforeMs, Math.min(proposedMs, beforeMs + Math.max(STEP_MS, 2 * stepMs)))
}
