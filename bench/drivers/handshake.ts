/** Drives handshakes over the broker: each operation is a client of its own and a newcomer, from no connection to its first reply. */
import { connect, KeyPair, type MeshClient } from '../../client/index.ts'
import type { Driver } from './index.ts'
import type { MeshAccess } from './mesh.ts'

export async function openHandshake({ url, mesh }: Pick<MeshAccess, 'url' | 'mesh'>): Promise<Driver> {
  const closing: Promise<void>[] = []
  return {
    operation: async () => {
      const client: MeshClient = await connect({ url, mesh, identity: KeyPair.generate() })
      await client.call('0xI:whoami')
      // Not part of what is timed.
      closing.push(client.close())
    },
    close: async () => { await Promise.all(closing) },
  }
}
