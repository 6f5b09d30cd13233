/** Drives writes through the SDK: one transaction a message, each answered when it is committed. */
import { keyOf, valueOf } from '../store-contract.ts'
import type { Driver } from './index.ts'
import { meshClient, type MeshAccess } from './mesh.ts'

export interface WritesOptions extends MeshAccess {
  /** Address of the store contract. */
  readonly contract: string
  /** Keys in use. */
  readonly keys: number
}

export async function openWrites({ contract, keys, ...access }: WritesOptions): Promise<Driver> {
  const client = await meshClient(access)
  const fqmn = `0xSW:${contract}:put`
  let next = 0
  return {
    operation: () => {
      const index = next++
      return client.call(fqmn, { body: `["${keyOf(index % keys)}","${valueOf(index)}"]` })
    },
    close: () => client.close(),
  }
}
