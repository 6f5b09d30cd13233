/** Drives the echo of the baseline: 200 bytes each way. */
import { RawRequester, type RawLogin } from '../raw/requester.ts'
import { ECHO_SUBJECT } from '../raw/subject.ts'
import type { Driver } from './index.ts'

export const PAYLOAD_BYTES = 200

export async function openRaw(login: RawLogin): Promise<Driver> {
  const requester = await RawRequester.open(login)
  const payload = new Uint8Array(PAYLOAD_BYTES)
  return { operation: () => requester.request(ECHO_SUBJECT, payload), close: () => requester.close() }
}
