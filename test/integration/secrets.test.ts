/**
 * Secrets stand in no log. Here every way on which a node comes to see one is gone at its most talkative, refusals and failures
 * included; and it is shown that the search which closes every room of nodes finds what it looks for.
 */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, describe, expect, test } from '@jest/globals'
import { connect, type MeshClient } from '../../client/index.ts'
import { encodeRequest } from '../../cmtp/frame.ts'
import { canonicalBytes } from '../../cmtp/identity/canonical-json.ts'
import { makeRenewal } from '../../cmtp/identity/handshake.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { GUEST_KEY_SEED, natsAuthenticator } from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { makeRoot, wordsOfRoot } from '../../cmtp/identity/root.ts'
import { mineSubject, requestSubject } from '../../cmtp/subject.ts'
import { until } from '../client/support/until.ts'
import { CliHome } from '../client/support/cli-process.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { failureOf } from '../support/iam.ts'
import { NodeRoom } from '../support/node-process.ts'
import { metric } from '../support/prometheus.ts'
import { RawNats } from '../support/raw-nats.ts'
import { RawSocket } from '../support/raw-socket.ts'
import { keepSecret, keepSecretBytes, secretsIn } from '../support/secrets.ts'
import { versionedContract } from '../support/versioned-contracts.ts'

const room = new NodeRoom()
afterAll(() => room.close())

describe('the search for secrets', () => {
  test('finds every kind by its shape, in the midst of a log, and says where and not what', async () => {
    const seed = Nkey.generate('user').exportSeed()
    const jwt = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from('{"sub":"x"}').toString('base64url')}.${'A'.repeat(86)}`
    const words = await wordsOfRoot(makeRoot())
    for (const [what, secret] of [['the seed of an nkey', seed], ['a JWT', jwt], ['words of a root', words], ['a private key', '-----BEGIN PRIVATE KEY-----']] as const) {
      const found = secretsIn(`{"level":30,"msg":"before ${secret} behind"}\n`)
      expect(found).toEqual([expect.stringMatching(new RegExp(`^${what} `))])
      expect(found.join()).not.toContain(secret.slice(8))
    }
    // What everybody knows is none, nor are public keys, ids and prose.
    expect(secretsIn(`${GUEST_KEY_SEED} ${Nkey.generate('user').text} ${KeyPair.generate().did} the quick brown fox jumps over the lazy dog and is then seen no more`)).toEqual([])
  })

  test('finds what a test made, in every spelling', () => {
    const secret = KeyPair.generate().exportSeed()
    const nkey = Nkey.fromBytes('account', secret).exportSeed()
    keepSecretBytes('a key', secret)
    for (const text of [secret.toString('hex'), secret.toString('base64'), secret.toString('base64url')]) expect(secretsIn(`a${text}b`)).toEqual(['a key at 1'])
    expect(secretsIn(nkey)).toContain('a key at 0')
  })

  test('fails the room of a node that wrote one', async () => {
    const other = new NodeRoom()
    await other.start()
    const forget = keepSecret('the word', 'state is open')
    await expect(other.close()).rejects.toThrow(/secrets were written down:\nstderr of the node in .*: the word at \d+/)
    forget()
  })

  test('fails the home of a command that printed one, unless its test says that it is there to', async () => {
    const asked = ['identity', 'export', 'me', '--seed', '--yes']
    for (const tells of [[], ['identity export']]) {
      const home = await CliHome.make()
      await home.json('identity', 'new', 'me')
      home.tells(...tells)
      await home.run(asked)
      if (tells.length > 0) await home.close()
      else await expect(home.close()).rejects.toThrow(/secrets were written down:\nstdout of cmesh identity export me --seed --yes: the seed in identities\/me\.json at 0$/)
    }
    const home = await CliHome.make()
    home.tells('identity export')
    home.wrote('somebody else', 'before -----BEGIN PRIVATE KEY-----')
    await expect(home.close()).rejects.toThrow('somebody else: a private key at 7')
  })

  test('fails a broker that logged one, and a socket that one came to', async () => {
    const broker = await ExternalBroker.start({ extra: () => 'debug: true\ntrace: true' })
    const socket = await RawSocket.connect(broker.url)
    const key = KeyPair.generate().exportSeed().toString('base64url')
    await socket.request(`${socket.inbox}.1`, Buffer.from(`the key is ${key}`))
    expect(() => { socket.close() }).toThrow(/^secrets came in messages:\non _INBOX\..*\.1: a key that was made here at 11$/)
    await expect(broker.stop()).rejects.toThrow(/in the broker's log:\na key that was made here at \d+/)
  })
})

test('a node that is asked to say everything says no secret, whatever is done to it', async () => {
  const operator = KeyPair.generate()
  const args = ['--operator', operator.did]
  const set = { 'log.level': 'debug', 'iam.sessionTtlMs': 2_000 }
  const node = await room.start({ args, set })
  const open = (identity: KeyPair): Promise<MeshClient> =>
    connect({ url: node.url, mesh: node.descriptor.did, identity, timeoutMs: 20_000, onWarning: () => undefined })
  keepSecretBytes('the operator\'s key', operator.exportSeed())

  // What is meant: a session, its renewal, rights, code, a gateway, the keys, the end.
  const root = await open(operator)
  const author = KeyPair.generate()
  await root.call('0xIW:grant', { body: JSON.stringify({ did: author.did, permission: 'deploy 0xSW:0x000:deploy' }) })
  const client = await open(author)
  await client.deploy({ wasm: versionedContract({ which: 1, init: 'keeps' }), name: 'kept', version: '1.0.0' })
  const carried = await client.as(KeyPair.generate())
  await carried.call('0xI:whoami')
  const before = (await client.call('0xI:session')).json<{ jti: string }>().jti
  await until('the token was renewed', async () => (await client.call('0xI:session')).json<{ jti: string }>().jti !== before)
  const { keys } = (await root.call('0xI:keys')).json<{ keys: { kid: string }[] }>()
  await root.call('0xIW:keys', { args: ['rotate'] })
  await root.call('0xIW:keys', { args: ['drop', keys[0]?.kid ?? ''] })
  await client.call('0xIW:hangup')

  // What is not: tokens, logins and messages that are refused, wherever they can be put.
  const raw = await RawNats.connect(node.url)
  const session = await raw.login(operator)
  const request = (fqmn: string, token: string, body = ''): Buffer =>
    encodeRequest({ id: raw.ids.next(), fqmn, token: Buffer.from(token), deadlineMs: Date.now() + 10_000, receipt: 'full', body: Buffer.from(body) })
  const { token, connection } = session
  const login = connection?.jwt ?? ''
  for (const [fqmn, by, body] of [
    ['0xI:whoami', `${token.slice(0, -4)}AAAA`, ''], ['0xI:whoami', login, ''], ['0xSW:0x000:deploy', token, token], ['0xEW:channel:x', token, token],
    ['0xIW:grant', token, JSON.stringify({ did: token, permission: login })],
  ] as const) await raw.ask(requestSubject(session.sid), request(fqmn, by, body))
  expect(raw.takeLeaks()).toEqual([])
  // An answer names the address that was asked: what its caller wrote into that comes back, to the caller alone.
  for (const fqmn of [`0xS:0x001:${token}`, `0xR:${token}`]) await raw.ask(requestSubject(session.sid), request(fqmn, token))
  for (const leak of raw.takeLeaks()) expect(leak).toMatch(/^on _INBOX\S+: (a JWT|a session token) at \d+$/)
  await raw.request(mineSubject(session.sid), Buffer.from(token))
  await raw.request(mineSubject(session.sid), request('0xI:whoami', token))
  await until('both were mined', async () => {
    const metrics = await node.metrics()
    return ['done', 'garbage'].every(outcome => (metric(metrics, 'cmesh_mined_total', { source: 'stream', outcome }) ?? 0) > 0)
  })
  for (const body of [Buffer.from(token), canonicalBytes(makeRenewal('refresh', login, session.key, Date.now())), canonicalBytes(makeRenewal('hangup', token, session.key, Date.now()))]) {
    for (const action of ['call', 'confirm', 'consent', 'refresh', 'hangup'] as const) await failureOf(() => raw.step(action, body, undefined)).catch(() => undefined)
  }
  const stranger = Nkey.generate('user')
  for (const credentials of [{ jwt: login }, { auth_token: token }, { user: token, pass: login }, { user: stranger.exportSeed() }]) {
    await expect(RawSocket.connect(node.url, { login: () => credentials })).rejects.toThrow()
  }
  await expect(RawSocket.connect(node.url, { login: natsAuthenticator(stranger, () => login) })).rejects.toThrow()
  raw.close()
  await Promise.all([root, client].map(each => each.close()))

  // A start that fails over a secret of its own, and one with a login in its settings.
  const address = new URL(node.url)
  address.username = 'core'
  address.password = 'a pass word of mine'
  keepSecret('a password', address.password)
  keepSecret('a password', 'a pass word of mine')
  const seed = Nkey.generate('user').exportSeed()
  const failed = [
    await room.launch({ args: ['--nats-url', address.href], set: { 'log.level': 'debug' } }),
    await room.launch({ args: ['--nats-url', node.url], set: { 'log.level': 'debug', 'bus.nkeySeed': seed } }),
    await room.launch({ args: ['--nats-url', node.url], set: { 'log.level': 'debug', 'bus.nkeySeed': `${seed.slice(0, -1)}!` } }),
  ]
  expect(await Promise.all(failed.map(each => each.exited))).toEqual(failed.map(() => ({ code: 1, signal: null })))
  expect(node.stderr).toContain('"level":20')
  // The search has something to look for: what stands in the node's files.
  for (const file of ['node.key', 'iam/keys.json', 'operator/accounts.json']) expect(await readFile(path.join(node.dir, file), 'utf8')).toMatch(/[\w-]{43}/)
  await node.stop()
  expect([node, ...failed].flatMap(each => each.leaks)).toEqual([])
})
