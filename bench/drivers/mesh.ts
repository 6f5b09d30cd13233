/** How a driver's process comes to a client of the mesh. */
import { connect, KeyPair, type MeshClient } from '../../client/index.ts'

export interface MeshAccess {
  readonly url: string
  /** DID of the mesh. */
  readonly mesh: string
  /** Seed of the identity to act as, 32 bytes. */
  readonly seed: Uint8Array
}

/** `coalesce`: the option of the client. */
export function meshClient({ url, mesh, seed }: MeshAccess, coalesce = true): Promise<MeshClient> {
  return connect({ url, mesh, identity: KeyPair.fromSeed(seed), coalesce })
}
