/** Drives the mix through the SDK, one call at a time for each in flight. */
import { mixed } from '../mix.ts'
import type { ReceiptLevel } from '../../cmtp/wire.ts'
import type { Driver } from './index.ts'
import { meshClient, type MeshAccess } from './mesh.ts'

export interface MixOptions extends MeshAccess {
  /** Whether calls made in one turn may share a frame, as they do unless a program says otherwise. */
  readonly coalesce: boolean
  /** Default `hash`. */
  readonly receipt?: ReceiptLevel
}

export async function openMix({ coalesce, receipt = 'hash', ...access }: MixOptions): Promise<Driver> {
  const client = await meshClient(access, coalesce)
  return { operation: index => client.call(mixed(index), { receipt }), close: () => client.close() }
}
