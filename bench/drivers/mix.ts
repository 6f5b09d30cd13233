/** Drives the mix through the SDK: one request a message. */
import { mixed } from '../mix.ts'
import type { Driver } from './index.ts'
import { meshClient, type MeshAccess } from './mesh.ts'

export async function openMix(access: MeshAccess): Promise<Driver> {
  const client = await meshClient(access)
  return { operation: index => client.call(mixed(index)), close: () => client.close() }
}
