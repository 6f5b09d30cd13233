/** Drives a guard in this process, as a node composes it: keys by a ring, a feed that is heard; and jose alone on the same tokens. */
import { randomBytes } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { jwtVerify } from 'jose'
import { didToSegment } from '../../cmtp/identity/did.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { login } from '../../cmtp/identity/login.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { TOKEN_ALGORITHM, TOKEN_AUDIENCE, TOKEN_TYPE, TOKEN_VERSION } from '../../cmtp/identity/token.ts'
import { NEWCOMER_READ_SET } from '../../cmtp/permission.ts'
import { DidIdentityProvider } from '../../providers/iam/did.ts'
import { Guard } from '../../services/iam/guard.ts'
import { KeyRing } from '../../services/iam/key-ring.ts'
import { IamService } from '../../services/iam/service.ts'
import { signToken } from '../../services/iam/session-token.ts'
import type { Driver } from './index.ts'

/**
 * `know`: lets the guard verify every token once. `hit`: tokens that it knows. `miss`: the same after it forgot them. `jose`: the same verified by jose with key, algorithm, type,
 * issuer and audience given, and nothing else. `live`: opens so many sessions by whole handshakes, each with an nkey of its own, lets each in once, and collects garbage.
 */
export type GuardWay = 'know' | 'hit' | 'miss' | 'jose' | 'live'

/** Sessions asked for in turn. */
const SESSIONS = 1_000
const LIFE_S = 300
/** Tokens with less life left than this, in ms, are replaced before a burst. */
const LEAST_LIFE_MS = 60_000
/** Handshakes under way while sessions are opened. */
const AT_ONCE = 32

interface Known {
  readonly sid: string
  readonly token: Buffer
}

export async function openGuard(_options: undefined): Promise<Driver> {
  const root = KeyPair.generate()
  const ring = new KeyRing({ root })
  const guard = new Guard({ key: root.publicKey, keys: ring, heardMs: Date.now, grantsOf: () => NEWCOMER_READ_SET, maxSessions: 20_000 })
  const iam = new IamService({ provider: new DidIdentityProvider(), signer: root, ring, guard, grantsOf: () => NEWCOMER_READ_SET, node: root.did })
  await iam.start()
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  let tokens = makeTokens(root, ring)

  const ways: Readonly<Record<GuardWay, (count: number) => Promise<void>>> = {
    know: async () => {
      for (const { token, sid } of tokens.known) await guard.check(token, sid)
    },
    hit: async count => {
      const { known } = tokens
      for (let i = 0; i < count; i++) {
        const { token, sid } = known[i % SESSIONS] as Known
        if (guard.check(token, sid) instanceof Promise) throw new Error('a token that was known is not any more')
      }
    },
    miss: async count => {
      const { known } = tokens
      for (let i = 0; i < count; i++) {
        if (i % SESSIONS === 0) guard.keysChanged()
        const { token, sid } = known[i % SESSIONS] as Known
        await guard.check(token, sid)
      }
    },
    jose: async count => {
      const { known } = tokens
      const key = ring.current.publicKey.keyObject
      const options = { algorithms: [TOKEN_ALGORITHM], typ: TOKEN_TYPE, audience: TOKEN_AUDIENCE, issuer: didToSegment(root.did) }
      for (let i = 0; i < count; i++) await jwtVerify((known[i % SESSIONS] as Known).token, key, options)
    },
    live: async count => {
      let left = count
      const open = async (): Promise<void> => {
        while (left-- > 0) {
          const nkey = Nkey.generate('user')
          const { token, sid } = await login({ identity: KeyPair.generate(), nkey, mesh: root.did, send: (action, body) => iam.handle(action, body) })
          await guard.check(Buffer.from(token), sid)
        }
      }
      await Promise.all(Array.from({ length: AT_ONCE }, open))
      for (let i = 0; i < 3; i++) collect()
    },
  }
  return {
    burst: async (count, way) => {
      if (tokens.expiresMs - Date.now() < LEAST_LIFE_MS) tokens = makeTokens(root, ring)
      await ways[way as GuardWay](count)
    },
    close: () => iam.stop(),
  }
}

interface Tokens {
  readonly known: readonly Known[]
  /** ms since 1970. */
  readonly expiresMs: number
}

function makeTokens(root: KeyPair, ring: KeyRing): Tokens {
  const iat = Math.floor(Date.now() / 1_000)
  const exp = iat + LIFE_S
  const subject = KeyPair.generate()
  const known = Array.from({ length: SESSIONS }, () => {
    const sid = randomBytes(16).toString('base64url')
    const token = signToken({
      iss: root.did, aud: TOKEN_AUDIENCE, sub: subject.did, sid, jti: randomBytes(9).toString('base64url'), iat, exp, ver: TOKEN_VERSION,
      cnf: { jkt: subject.publicKey.thumbprint }, perms: ['newcomer'], amr: ['swk'], aal: 1,
    }, ring.current)
    return { sid, token: Buffer.from(token) }
  })
  return { known, expiresMs: exp * 1_000 }
}
