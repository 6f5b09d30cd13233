/**
 * Start in order, stop in reverse. A step that fails has everything before it undone, and its name goes into the error.
 * Stopping goes on past a step that fails to stop, and reports the first failure at the end.
 */
import { CMeshError } from '../cmtp/errors.ts'
import type { Log } from '../services/log.ts'

export interface Step {
  readonly name: string
  start(): Promise<void> | void
  /** Undoes `start`. Called only when `start` was, also when it failed half-way. */
  stop?(): Promise<void> | void
}

export class Steps {
  readonly #log: Log
  readonly #done: Step[] = []

  constructor(log: Log) {
    this.#log = log
  }

  /** Rejects with `CMESH_BOOT_FAILED` naming the step; what was started is stopped by then. */
  async start(steps: readonly Step[], onStep: (name: string) => void): Promise<void> {
    for (const step of steps) {
      this.#done.push(step)
      try {
        onStep(step.name)
        await step.start()
      } catch (cause) {
        await this.stop().catch((error: unknown) => { this.#log.error({ err: error }, 'undoing a failed start failed as well') })
        throw bootFailed(step.name, cause)
      }
    }
  }

  /** Stops what was started, last first. Idempotent. */
  async stop(): Promise<void> {
    let first: unknown
    for (let step = this.#done.pop(); step !== undefined; step = this.#done.pop()) {
      try {
        await step.stop?.()
      } catch (error) {
        first ??= error
        this.#log.error({ err: error, step: step.name }, 'a part of the node did not stop cleanly')
      }
    }
    if (first !== undefined) throw first
  }
}

/** The failure of a step, with its name; a failure that carries a step's name already keeps it. */
function bootFailed(step: string, cause: unknown): CMeshError {
  if (cause instanceof CMeshError && cause.code === 'CMESH_BOOT_FAILED') return cause
  const reason = cause instanceof CMeshError ? `${cause.message} (${cause.code})` : cause instanceof Error ? cause.message : String(cause)
  return new CMeshError('CMESH_BOOT_FAILED', { step, reason }, { cause })
}
