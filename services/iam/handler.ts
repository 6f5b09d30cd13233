/** What a session asks IAM: `0xI:whoami | session | grants | jwks`, and `0xIW:refresh | hangup` for itself. */
import { CMeshError } from '../../cmtp/errors.ts'
import type { HandshakeAction } from '../../cmtp/identity/messages.ts'
import { jsonReply, jsonTextReply, type Call, type Reply } from '../call.ts'
import type { AuthContext } from './guard.ts'
import type { IamService } from './service.ts'

export function iamHandler(iam: Pick<IamService, 'handle' | 'describe'>): (call: Call, auth: AuthContext) => Reply | Promise<Reply> {
  return (call, auth) => {
    const { segments, write } = call.route
    const [action = ''] = segments
    if (!write) return jsonReply(iam.describe(action, auth))
    if (action !== 'refresh' && action !== 'hangup') throw new CMeshError('CMESH_ROUTER_ACTION', { service: 'iam', action, access: 'writing with a session' })
    return iam.handle(action satisfies HandshakeAction, call.body, auth).then(body => jsonTextReply(body))
  }
}
