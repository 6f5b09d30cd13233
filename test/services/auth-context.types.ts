/**
 * What must not compile: each line under an `@ts-expect-error` is a way around the guard, and `npm run types` fails when one
 * of them becomes possible. Nothing here runs.
 */
import type { Route } from '../../cmtp/fqmn.ts'
import type { AuthContext, Guard } from '../../services/iam/guard.ts'
// @ts-expect-error the class is exported as a type: there is no value to construct, extend or bind to
import { AuthContext as Value } from '../../services/iam/guard.ts'

export function ways(guard: Guard, route: Route, real: AuthContext): void {
  const shape = {
    sub: 'did:key:z', sid: '', jti: '', expiresMs: 0, issuedMs: 0, amr: [], aal: 1 as const, jkt: '', permissions: [],
  }
  // @ts-expect-error a literal lacks the brand
  guard.authorise(shape, route)
  // @ts-expect-error a literal lacks the brand
  guard.confirm(shape)
  // @ts-expect-error a copy lacks the brand
  guard.authorise({ ...real }, route)
  // @ts-expect-error a promise is not yet a context: await it
  guard.authorise(guard.check(new Uint8Array(), 'sid'), route)
  // @ts-expect-error nothing is not a context
  guard.authorise(undefined, route)
  // @ts-expect-error a context cannot be made somebody else's
  real.sub = 'did:key:z'
  // @ts-expect-error the constructor is the guard's
  void new Value()
  guard.authorise(real, route)
}
