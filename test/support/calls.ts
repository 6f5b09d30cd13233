/** Calls as a service sees them, made without a front door. */
import { parseFqmn } from '../../cmtp/fqmn.ts'
import type { Call } from '../../services/call.ts'

export function testCall(fqmn: string, fields: Partial<Call> = {}): Call {
  return {
    id: Buffer.alloc(16, 5), route: parseFqmn(fqmn), body: Buffer.alloc(0), headers: Buffer.alloc(0), deadlineMs: 1_800_000_005_000, token: Buffer.alloc(0),
    sid: '', replySubject: '', hops: 0, auth: undefined, layers: [], markUs: 0, salt: undefined, proposed: false, ...fields,
  }
}
