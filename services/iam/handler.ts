/**
 * What a session asks IAM: about itself and the mesh (`0xI:whoami | session | keys | jwks`), about rights and whose they are
 * (`0xI:grants | explain | capabilities | rotation`), for itself (`0xIW:refresh | hangup`), for changes of rights, which are ordered like any other write and decided there, and, where it holds
 * `write 0xIW:keys` as the operator does, for a change of the keys that sign tokens, which is this node's own.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn, type Route } from '../../cmtp/fqmn.ts'
import { decodeDid } from '../../cmtp/identity/did.ts'
import { formatPermission, normalPermissions } from '../../cmtp/permission.ts'
import { argumentsOf, jsonReply, jsonTextReply, type Call, type Reply } from '../call.ts'
import type { HopNotes } from '../endpoint.ts'
import type { StateService } from '../state/service.ts'
import { explain } from './explain.ts'
import type { GrantBook } from './grant-book.ts'
import type { AuthContext, Guard } from './guard.ts'
import type { IamService } from './service.ts'
import { heirOf, isRotated, predecessorsOf, rotationStatus } from './rotations.ts'
import { RIGHTS_ORDERS } from './transactions.ts'

export interface IamHandlerParts {
  readonly iam: Pick<IamService, 'handle' | 'describe' | 'changeKeys'>
  readonly guard: Pick<Guard, 'authorise'>
  readonly book: GrantBook
  readonly state: Pick<StateService, 'write'>
  /** ms since 1970. */
  readonly now: () => number
  /** The final address of one by name, any other as it is. Throws what the Registrar throws. */
  readonly resolve: (route: Route) => Route
}

/** Whoever may grant may look at what others were granted. */
const GRANT = parseFqmn('0xIW:grant')

type IamHandler = (call: Call, auth: AuthContext, notes: HopNotes) => Reply | Promise<Reply>

export function iamHandler({ iam, guard, book, state, now, resolve }: IamHandlerParts): IamHandler {
  const whose = (auth: AuthContext, did: string = auth.sub): string => {
    decodeDid(did)
    // What counts for somebody's DID of before is their own as well.
    if (did !== auth.sub && heirOf(book.records, did) !== auth.sub) guard.authorise(auth, GRANT)
    return did
  }
  return (call, auth, notes) => {
    const { segments, write } = call.route
    const [action = ''] = segments
    if (write) {
      if (RIGHTS_ORDERS.has(action)) return state.write(call, auth, notes)
      if (action === 'keys') return iam.changeKeys(keyChange(call)).then(keys => jsonReply({ ...keys }))
      if (action !== 'refresh' && action !== 'hangup') throw new CMeshError('CMESH_ROUTER_ACTION', { service: 'IAM', action, access: 'writing with a session' })
      return iam.handle(action, call.body, auth).then(body => jsonTextReply(body))
    }
    switch (action) {
      case 'grants': {
        const did = whose(auth, textsOf(call, 0, 1)[0])
        const perms = normalPermissions(book.possible(did)).map(formatPermission)
        const { records } = book
        const [rotated, from] = [isRotated(records, did), predecessorsOf(records, did)]
        return jsonReply({
          did, perms, grants: rotated ? [] : book.grants(did), banned: book.isBanned(did),
          ...(rotated && { rotatedTo: heirOf(records, did) }), ...(from.length > 0 && { rotatedFrom: from }),
        })
      }
      case 'capabilities': {
        const did = whose(auth, textsOf(call, 0, 1)[0])
        return jsonReply({ did, capabilities: book.capabilities(did) })
      }
      case 'rotation': {
        const [did = auth.sub] = textsOf(call, 0, 1)
        decodeDid(did)
        return jsonReply(rotationStatus(book.records, did))
      }
      case 'explain': {
        const [did, fqmn] = textsOf(call, 2, 2)
        return jsonReply(explain(book, whose(auth, did), resolve(parseFqmn(fqmn as string)), now()))
      }
      default:
        return jsonReply(iam.describe(action, auth))
    }
  }
}

/** The change that `["rotate"]` or `["drop","<kid>"]` asks for. Throws `CMESH_FRAME_MALFORMED`. */
function keyChange(call: Call): 'rotate' | { readonly drop: string } {
  const [verb, kid] = textsOf(call, 1, 2)
  if (verb === 'rotate' && kid === undefined) return 'rotate'
  if (verb === 'drop' && kid !== undefined) return { drop: kid }
  throw new CMeshError('CMESH_FRAME_MALFORMED', { offset: 0, expected: '["rotate"] or ["drop","<kid>"] as arguments' })
}

/** The arguments, which are texts: at least `least` and at most `most`. Throws `CMESH_FRAME_MALFORMED`. */
function textsOf(call: Call, least: number, most: number): readonly string[] {
  const bytes = argumentsOf(call)
  if (bytes.length === 0 && least === 0) return []
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch {
    value = undefined
  }
  if (!Array.isArray(value) || value.length < least || value.length > most || !value.every(text => typeof text === 'string')) {
    throw new CMeshError('CMESH_FRAME_MALFORMED', { offset: 0, expected: `${least === most ? most : `${least} to ${most}`} texts in a JSON array as arguments` })
  }
  return value
}
