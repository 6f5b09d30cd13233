/** What a transaction came to, as a test reads it. */
import type { CMeshError } from '../../cmtp/errors.ts'
import { messageIdOf, readMessage } from '../../services/contracts/messages.ts'
import type { SentMessage } from '../../services/contracts/provider.ts'
import type { CallFailure, CallSuccess } from './contract.ts'
import type { Outcome } from './ledger.ts'
import { decodeValue } from './values.ts'

export function successOf({ output, gas, seq, events, writes, system }: Outcome): CallSuccess {
  return {
    ok: true,
    value: decodeValue(output),
    gas: Number(gas),
    seq,
    events: events.map(({ contract, topic, data }) => ({ contract, topic, data: decodeValue(data) })),
    writes: writes.map(({ space, key, value }) => ({ contract: space, key, value })),
    sends: sentIn(system),
  }
}

/** The messages among the writes to the mesh's own records. */
function sentIn(system: Outcome['system']): SentMessage[] {
  const written = new Map(system.flatMap(({ key, value }) => (value === undefined ? [] : [[key, value] as const])))
  return [...written.keys()].flatMap((key) => {
    const id = messageIdOf(key)
    return id === undefined ? [] : readMessage(written, id) ?? []
  })
}

export function failureOf(error: CMeshError, gas: number, seq: number): CallFailure {
  const { reason } = error.detail
  return { ok: false, code: error.code, reason: typeof reason === 'string' ? reason : error.message, error, gas, seq }
}
