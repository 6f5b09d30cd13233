/**
 * Whose a frame is, and whose an entry that a gateway carries: the guard's word on its token, with what is wrong as a value in the place of an
 * exception. Known sessions are told at once, others by a promise; nothing here throws, no promise rejects.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import type { Origin } from './passage.ts'

/** Whose it is, or why it is nobody's. */
export type Caller = AuthContext | CMeshError

export class Callers {
  readonly #guard: Pick<Guard, 'check' | 'checkCarried'>

  constructor(guard: Pick<Guard, 'check' | 'checkCarried'>) {
    this.#guard = guard
  }

  ofFrame(token: Uint8Array, { sid, via }: Origin): Caller | Promise<Caller> {
    return asValue(() => this.#guard.check(token, sid, via))
  }

  /** The same for an entry that a gateway carries, in a frame on its own subject. */
  ofEntry(reference: Uint8Array, { via }: Origin, gateway: Caller): Caller | Promise<Caller> {
    // Over another's connection it is carried itself, and passes nothing on: its gateway is not whom the entry's session named.
    if (via !== undefined) return new CMeshError('CMESH_IAM_TOKEN')
    // Whoever is carried is not to blame: on its own subject it will be heard.
    if (gateway instanceof CMeshError) return gateway.status === 401 ? new CMeshError('CMESH_IAM_TOKEN') : gateway
    return asValue(() => this.#guard.checkCarried(reference, gateway.sid))
  }
}

function asValue(check: () => AuthContext | Promise<AuthContext>): Caller | Promise<Caller> {
  try {
    const auth = check()
    return auth instanceof Promise ? auth.catch((error: unknown) => CMeshError.from(error, 'the guard')) : auth
  } catch (error) {
    return CMeshError.from(error, 'the guard')
  }
}
