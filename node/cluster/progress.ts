/** How far the nodes of a cluster are, as each says at `/healthz`. */
import { setTimeout as delay } from 'node:timers/promises'
import { CMeshError } from '../../cmtp/errors.ts'
import type { NodeChild } from './child.ts'

interface Health {
  readonly status?: unknown
  readonly sequence?: unknown
}

/** How long one that was started again may take to be where the others are, in ms. */
const CATCH_UP_MS = 120_000
const POLL_MS = 50
const REQUEST_MS = 2_000

/** Resolves when `node` serves and has what any of the others has now. Rejects with `CMESH_BOOT_FAILED` after two minutes. */
export async function caughtUp(node: NodeChild, others: readonly NodeChild[], signal: AbortSignal): Promise<void> {
  const heads = await Promise.all(others.map(sequenceOf))
  const target = Math.max(0, ...heads.filter(head => head !== undefined))
  const end = performance.now() + CATCH_UP_MS
  for (;;) {
    if ((await sequenceOf(node) ?? -1) >= target) return
    if (signal.aborted) throw new CMeshError('CMESH_BOOT_FAILED', { step: node.name, reason: 'it was stopped' })
    if (performance.now() > end) throw new CMeshError('CMESH_BOOT_FAILED', { step: node.name, reason: `it is not at block ${target} after ${CATCH_UP_MS} ms` })
    await delay(POLL_MS)
  }
}

/** `undefined` for one that does not serve. */
async function sequenceOf({ descriptor }: NodeChild): Promise<number | undefined> {
  if (descriptor === undefined) return undefined
  try {
    const answer = await fetch(`${descriptor.http}/healthz`, { signal: AbortSignal.timeout(REQUEST_MS) })
    const { status, sequence } = await answer.json() as Health
    return answer.ok && status !== 'draining' && typeof sequence === 'number' ? sequence : undefined
  } catch {
    return undefined
  }
}
