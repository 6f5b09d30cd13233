/** A real node whose identity provider is `irma`, a stand-in for the IRMA server with the person in it, and the SDK. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { connect, KeyPair, type ConnectOptions, type MeshClient, type PersonChallenge } from '../../client/index.ts'
import { until } from '../client/support/until.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { EMAIL, StandInIrma } from '../support/stand-in-irma.ts'

const room = new NodeRoom()
const operator = KeyPair.generate()
const clients: MeshClient[] = []
let server: StandInIrma
let node: TestNode

function environment(settings: StandInIrma['settings']): Record<string, string> {
  return {
    CMESH_IAM_PROVIDER: 'irma', CMESH_IAM_IRMA_URL: settings.url, CMESH_IAM_IRMA_REQUESTOR: settings.requestor,
    CMESH_IAM_IRMA_KEY: settings.key, CMESH_IAM_IRMA_SERVER_KEY: settings.serverKey, CMESH_IAM_IRMA_DISCLOSE: settings.disclose,
  }
}

beforeAll(async () => {
  server = await StandInIrma.start()
  node = await room.start({ args: ['--operator', operator.did], env: environment(server.settings) })
})
beforeEach(() => {
  server.mischief = undefined
  server.person = 'discloses'
})
afterEach(() => Promise.all(clients.splice(0).map(client => client.close())))
afterAll(async () => {
  await room.close()
  await server.stop()
})

const scan = ({ value }: PersonChallenge): string => server.scan(value)

async function open(options: ConnectOptions = {}): Promise<MeshClient> {
  const client = await connect({ url: node.url, mesh: node.descriptor.did, identity: KeyPair.generate(), timeoutMs: 20_000, onChallenge: scan, ...options })
  clients.push(client)
  return client
}

describe('a mesh whose identity provider is irma', () => {
  test('lets somebody in who disclosed, as the DID that signed', async () => {
    const identity = KeyPair.generate()
    const seen: PersonChallenge[] = []
    const client = await open({ identity, onChallenge: challenge => { seen.push(challenge); return scan(challenge) } })
    expect(await client.whoami()).toMatchObject({ did: identity.did, aal: 2, amr: ['swk', 'user'], provider: 'irma' })
    expect((await client.call('0xS:0x001:hello_world')).json()).toBe('Hello, world')
    expect(seen).toEqual([{ provider: 'irma', did: identity.did, kind: 'qr', value: expect.stringMatching(/^https:\/\/open\.yivi\.app\/-\/session#/), expires: expect.any(Number) }])
  })

  test('shows what it will keep before it is consented to', async () => {
    let claims: unknown
    await open({ approve: grant => { claims = grant.claims; return true } })
    expect(claims).toContainEqual({ id: EMAIL, value: 'ada@example.com', issuer: 'irma:pbdf.sidn-pbdf' })
  })

  test('renews a session without asking the person again', async () => {
    const short = await room.start({ env: { ...environment(server.settings), CMESH_IAM_SESSION_TTL_MS: '3000' } })
    let asked = 0
    const client = await open({ url: short.url, mesh: short.descriptor.did, onChallenge: challenge => { asked++; return scan(challenge) } })
    const session = async (): Promise<{ jti: string, sid: string }> => (await client.call('0xI:session')).json()
    const first = await session()
    await until('the token is renewed', async () => (await session()).jti !== first.jti)
    expect((await session()).sid).toBe(first.sid)
    expect(asked).toBe(1)
  })

  test('carries others over a gateway, each of whom discloses', async () => {
    const gateway = await open()
    const identity = KeyPair.generate()
    const guest = await gateway.as(identity, { onChallenge: scan })
    expect(await guest.whoami()).toMatchObject({ did: identity.did, aal: 2 })
    await expect(gateway.as(KeyPair.generate())).rejects.toMatchObject({ code: 'CMESH_IAM_HANDSHAKE' })
  })

  test('the node lets itself in by its key, and nobody else', async () => {
    expect(node.running).toBe(true)
    await expect(open({ onChallenge: undefined })).rejects.toMatchObject({
      code: 'CMESH_IAM_HANDSHAKE', message: expect.stringContaining('it wants a proof by irma, which this client cannot make'),
    })
  })

  test.each([
    ['the wrong code', () => { /* as usual */ }, (right: string) => (right === '0000' ? '0001' : '0000'), 'CMESH_IAM_HANDSHAKE', 'the pairing code is not the one'],
    ['a person who declines', () => { server.person = 'declines' }, (right: string) => right, 'CMESH_IAM_HANDSHAKE', 'the person declined'],
    ['a forged result', () => { server.mischief = 'result by another key' }, (right: string) => right, 'CMESH_IAM_FORGED', 'The result of the IRMA server is not signed'],
    ['a result of another session', () => { server.mischief = 'result of another session' }, (right: string) => right, 'CMESH_IAM_HANDSHAKE', 'the result belongs to another session'],
  ] as const)('refuses %s', async (_, arrange, typed, code, message) => {
    arrange()
    await expect(open({ onChallenge: challenge => typed(scan(challenge)) })).rejects.toMatchObject({ code, message: expect.stringContaining(message) })
  })

  test('says that the server does not do its part, and works again when it does', async () => {
    server.mischief = 'refuses to start'
    await expect(open({ connectTimeoutMs: 2_000 })).rejects.toMatchObject({ code: 'CMESH_IAM_UPSTREAM', status: 502 })
    server.mischief = undefined
    await expect(open()).resolves.toBeDefined()
  })

  test('writes no secret of the server\'s into its log', async () => {
    await open()
    expect(server.secrets).not.toEqual([])
    expect(node.stderr + node.stdout).not.toContain(server.settings.key)
    for (const token of server.secrets) expect(node.stderr + node.stdout).not.toContain(token)
  })

  test('does not start without its settings, and says which is missing', async () => {
    const { CMESH_IAM_IRMA_KEY: _, ...rest } = environment(server.settings)
    const halted = await room.launch({ env: rest })
    await halted.exited
    expect(halted.failure).toEqual({
      code: 'CMESH_CONFIG_INVALID', message: 'Boot stopped at step iam: The setting iam.irma.key is not valid: the identity provider irma needs it.',
    })
  })
})
