/**
 * Hypercore notes which blocks it has in pages of a bitfield, and for each append reads the page that it goes on in from RocksDB: a trip to another
 * thread that every block waits for, 4 KB that are in its memory as well. Here it gets them from there.
 *
 * Invariant: what it gets is what it would read. It changes its memory once what it wrote is written, and a log has one who appends, one append after
 * the other.
 */
import type Hypercore from 'hypercore'
import type { StorageReader } from 'hypercore'

const BITS_PER_PAGE = 32_768

/** For a core that is ready. Of one that is built otherwise than Hypercore 11 everything stays as it is. */
export function pagesFromMemory({ core: { bitfield }, state: { storage } }: Hypercore): void {
  if (typeof storage.read !== 'function' || typeof bitfield?.getBitfield !== 'function') return
  const read = storage.read.bind(storage)
  const pageOf = (index: number): Promise<Buffer | null> => {
    const page = bitfield.getBitfield(index * BITS_PER_PAGE)?.bitfield
    // A copy: it is written to before it is stored. One that there is none of has no block yet.
    return Promise.resolve(page === undefined ? null : Buffer.from(new Uint32Array(page).buffer))
  }
  storage.read = fork => {
    // Made for whoever wants anything else of it.
    let reader: StorageReader | undefined
    return new Proxy({} as StorageReader, {
      get: (_, name: keyof StorageReader) => {
        if (name === 'getBitfieldPage') return pageOf
        if (name === 'tryFlush' || name === 'destroy') return () => { reader?.[name]() }
        reader ??= read(fork)
        const asked: unknown = reader[name]
        return typeof asked === 'function' ? asked.bind(reader) as unknown : asked
      },
    })
  }
}
