/**
 * Start in order, stop in reverse. A step that fails has everything before it undone, and its name goes into the error's text.
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

  /** Rejects with the code of what failed, else with `CMESH_BOOT_FAILED`, the step named in the text; what was started is stopped by then. */
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

/**
 * The failure of a step, with its name in the text. It has the code and the detail of what failed, by which whoever starts the node knows what to do;
 * `CMESH_BOOT_FAILED` is for what has no code. A failure that carries a step's name already keeps it.
 */
function bootFailed(step: string, cause: unknown): CMeshError {
  if (!(cause instanceof CMeshError)) {
    return new CMeshError('CMESH_BOOT_FAILED', { step, reason: cause instanceof Error ? cause.message : String(cause) }, { cause })
  }
  if (cause.code === 'CMESH_BOOT_FAILED') return cause
  const failure = new CMeshError(cause.code, cause.detail, { cause })
  failure.message = `Boot stopped at step ${step}: ${cause.message}`
  return failure
}
