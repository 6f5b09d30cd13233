/**
 * Drives the resolver over as many names as asked for, in this process: from an address by name to the address it stands for. Each is an
 * address that was not parsed before, so nothing that was remembered of it is used.
 */
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { StateImage } from '../../providers/state/image.ts'
import { nameKey, TERM_MS } from '../../services/registrar/records.ts'
import { Resolver } from '../../services/registrar/resolver.ts'
import { SYSTEM_SPACE } from '../../services/state/provider.ts'
import type { Driver } from './index.ts'

export interface NamesOptions {
  readonly names: number
}

const TIME_MS = 1_800_000_000_000
/** Distinct names that are asked for, spread over all of them: as many however many there are. */
const ASKED = 1_000
const OWNER = 'did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK'

export function openNames({ names }: NamesOptions): Promise<Driver> {
  const records = new StateImage().space(SYSTEM_SPACE)
  for (let i = 0; i < names; i++) {
    const record = {
      name: nameOf(i), target: '0xS:0x001:hello_world', owner: OWNER, sequence: 1, registeredAtMs: TIME_MS, expiresAtMs: TIME_MS + TERM_MS, signature: 'A'.repeat(86),
    }
    records.set(nameKey(nameOf(i)), new Uint8Array(Buffer.from(JSON.stringify(record))))
  }
  const resolver = new Resolver(records)
  const asked = Math.min(ASKED, names)
  let unique = 0
  return Promise.resolve({
    burst: count => {
      for (let i = 0; i < count; i++) {
        const route = parseFqmn(`0xR:${nameOf(Math.floor((i % asked) * names / asked))}:[${unique++}]`)
        if (resolver.resolve(route, TIME_MS).segments[0] !== '0x001') throw new Error('a name resolved to another address')
      }
      return Promise.resolve()
    },
    close: () => Promise.resolve(),
  })
}

function nameOf(index: number): string {
  return `name-${String(index).padStart(7, '0')}.mcom`
}
