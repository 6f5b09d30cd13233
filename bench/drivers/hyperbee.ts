/** Drives Hyperbee, the key-value tree on the same log that the mesh keeps its state on: puts in batches, and gets. */
import Hypercore from 'hypercore'
import { loadPeer } from '../peers.ts'
import { keyOf, valueOf } from '../store-contract.ts'
import type { Driver } from './index.ts'

/** The parts of Hyperbee that are used here; it ships no types. */
interface HyperbeeBatch {
  put(key: string, value: string): Promise<void>
  flush(): Promise<void>
}

interface Hyperbee {
  ready(): Promise<void>
  batch(): HyperbeeBatch
  get(key: string): Promise<{ readonly value: string } | null>
  close(): Promise<void>
}

type HyperbeeClass = new (core: Hypercore, options: { readonly keyEncoding: 'utf-8', readonly valueEncoding: 'utf-8' }) => Hyperbee

export interface HyperbeeOptions {
  /** Where the log is kept; the driver's own. */
  readonly dir: string
  readonly does: 'put' | 'get'
  /** Keys in use. */
  readonly keys: number
}

const BATCH = 100

export async function openHyperbee({ dir, does, keys }: HyperbeeOptions): Promise<Driver> {
  const core = new Hypercore(Hypercore.defaultStorage(dir, { allowBackup: false }), { createIfMissing: true })
  const bee = new (loadPeer<HyperbeeClass>('hyperbee'))(core, { keyEncoding: 'utf-8', valueEncoding: 'utf-8' })
  await bee.ready()
  let next = 0
  const put = async (count: number): Promise<void> => {
    for (let done = 0; done < count; done += BATCH) {
      const batch = bee.batch()
      for (let i = done; i < Math.min(done + BATCH, count); i++) {
        await batch.put(keyOf(next % keys), valueOf(next))
        next++
      }
      await batch.flush()
    }
  }
  const get = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      const key = keyOf(next++ % keys)
      if (await bee.get(key) === null) throw new Error(`Hyperbee lost ${key}`)
    }
  }
  if (does === 'get') await put(keys)
  return { burst: does === 'put' ? put : get, close: () => bee.close() }
}
