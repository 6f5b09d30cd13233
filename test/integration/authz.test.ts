/** Rights on a real node: granted, explained, handed on and taken back by the command line, and what becomes of sessions and requests meanwhile. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { connect, KeyPair, type MeshClient } from '../../client/index.ts'
import { encodeRequest } from '../../cmtp/frame.ts'
import { encodeHeaders } from '../../cmtp/headers.ts'
import { makeRequestProof, PROOF_HEADER } from '../../cmtp/identity/request-proof.ts'
import { codeHash, encodePackage, packageManifest, signPackage } from '../../cmtp/package.ts'
import { requestSubject } from '../../cmtp/subject.ts'
import { CliHome } from '../client/support/cli-process.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { RawNats } from '../support/raw-nats.ts'
import { versionedContract } from '../support/versioned-contracts.ts'
import { until } from '../client/support/until.ts'

const INCREMENT = '0xSW:0x002:increment'
const MODULE = versionedContract({ which: 1 })

describe('by the command line', () => {
  let home: CliHome
  const dids: Record<string, string> = {}
  beforeAll(async () => {
    home = await CliHome.make()
    home.tells('attribute issue')
    for (const name of ['issuer', 'other']) dids[name] = (await home.json('identity', 'new', name) as { did: string }).did
    await home.start(['up', '--set', `iam.issuers=${of('issuer')}|${of('other')}`]).printed('Ctrl-C drains')
    for (const name of ['ann', 'ben', 'cat', 'dan']) dids[name] = (await home.json('identity', 'new', name) as { did: string }).did
  })
  afterAll(() => home.close())

  const as = (name: string, ...args: string[]): ReturnType<CliHome['run']> => home.run([...args, '--identity', name])
  const login = async (name: string): Promise<void> => { expect((await as(name, 'login', '--yes')).code).toBe(0) }
  const of = (name: string): string => dids[name] as string

  test('a grant counts from the next login on, is explained, and ends at once when it is taken back', async () => {
    expect(await as('ann', 'call', INCREMENT)).toMatchObject({ code: 1, stderr: expect.stringContaining('CMESH_IAM_DENIED: Permission write on 0xSW:0x002:increment is missing.') })
    expect((await home.run(['authz', 'explain', of('ann'), INCREMENT])).stdout).toBe(`denied: it lacks write ${INCREMENT}\n`)
    const grant = await home.json('authz', 'grant', of('ann'), 'write 0xSW:0x002:>') as { id: string }
    await login('ann')
    expect(await as('ann', 'call', INCREMENT)).toMatchObject({ code: 0 })
    expect((await as('ann', 'authz', 'explain', of('ann'), INCREMENT)).stdout).toMatch(/^allowed\n {2}write 0xSW:0x002:> {2}grant · /)
    expect((await as('ann', 'authz', 'list')).stdout).toContain(grant.id)
    expect(await home.json('authz', 'revoke', of('ann'), grant.id)).toEqual({ did: of('ann'), revoked: [{ id: grant.id, perm: 'write 0xSW:0x002:>' }] })
    expect(await as('ann', 'call', INCREMENT)).toMatchObject({ code: 1, stderr: expect.stringContaining('CMESH_IAM_DENIED') })
  })

  test('a grant has conditions, which are shown', async () => {
    await home.json('authz', 'grant', of('ann'), 'write 0xSW:0x001:say', '--not-before', '2030-01-31', '--not-after', '2031-01-31T12:00:00Z', '--aal', '2', '--attribute', `age=old@${of('cat')}`)
    await login('ann')
    expect(await as('ann', 'call', '0xSW:0x001:say:["x"]')).toMatchObject({ code: 1, stderr: expect.stringContaining('CMESH_IAM_DENIED') })
    const why = (await home.run(['authz', 'explain', of('ann'), '0xSW:0x001:say'])).stdout
    expect(why).toContain('under a condition:')
    for (const part of ['not before 2030-01-31T00:00:00.000Z', 'not after 2031-01-31T12:00:00.000Z', 'aal 2', `attribute age=old@${of('cat')}`]) expect(why).toContain(part)
    expect(await home.run(['authz', 'revoke', of('ann'), 'write 0xSW:0x001:say'])).toMatchObject({ code: 0, stdout: expect.stringMatching(/^revoked [0-9a-f]{32} write 0xSW:0x001:say\n$/) })
  })

  test('a grant on an attribute counts for a session that showed it as its issuer said it, and for no other', async () => {
    const vct = 'https://example.org/age'
    const shows = async (issuer: string, claim: string): Promise<void> => {
      const { stdout } = await as(issuer, 'attribute', 'issue', vct, claim, '--to', of('dan'))
      expect(await home.run(['attribute', 'hold', '-', '--identity', 'dan'], stdout)).toMatchObject({ code: 0 })
      expect(await as('dan', 'login', '--yes', '--attribute', `${vct}#${claim.split('=')[0] ?? ''}@${of(issuer)}`)).toMatchObject({ code: 0 })
    }
    const denied = { code: 1, stderr: expect.stringContaining(`CMESH_IAM_DENIED: Permission write on ${INCREMENT} is missing.`) }
    const { id } = await home.json('authz', 'grant', of('dan'), `write ${INCREMENT}`, '--attribute', `${vct}#over_18=true@${of('issuer')}`) as { id: string }
    await login('dan')
    expect(await as('dan', 'call', INCREMENT)).toMatchObject(denied)
    for (const [issuer, claim] of [['other', 'over_18=true'], ['issuer', 'over_16=true'], ['issuer', 'over_18=false']] as const) {
      await shows(issuer, claim)
      expect((await home.json('whoami', '--identity', 'dan') as { attributes: unknown[] }).attributes).toHaveLength(1)
      expect(await as('dan', 'call', INCREMENT)).toMatchObject(denied)
    }
    // Of two that say something else of the same claim, a login would show either.
    await rm(join(home.directory, 'config', 'credentials'), { recursive: true })
    await shows('issuer', 'over_18=true')
    expect(await as('dan', 'call', INCREMENT)).toMatchObject({ code: 0 })
    // The next session of the same identity shows nothing, and may not.
    await login('dan')
    expect(await as('dan', 'call', INCREMENT)).toMatchObject(denied)
    await home.json('authz', 'revoke', of('dan'), id)
  })

  test('who holds no right to grant neither grants, nor bans, nor looks at others', async () => {
    expect(await as('ann', 'authz', 'grant', of('ann'), 'write >')).toMatchObject({ code: 1, stderr: expect.stringContaining('Permission write on 0xIW:grant is missing.') })
    expect(await as('ann', 'authz', 'revoke', of('ben'), '--ban')).toMatchObject({ code: 1, stderr: expect.stringContaining('Permission write on 0xIW:ban is missing.') })
    for (const args of [['list', of('ben')], ['explain', of('ben'), INCREMENT]]) {
      expect(await as('ann', 'authz', ...args)).toMatchObject({ code: 1, stderr: expect.stringContaining('Permission write on 0xIW:grant is missing.') })
    }
    expect(await home.run(['authz', 'revoke', of('ann')])).toMatchObject({ code: 2, stderr: expect.stringContaining('Say what to take back') })
  })

  test('a ban ends the sessions there are and lets no new one begin, until it is lifted', async () => {
    await login('ben')
    expect((await as('ben', 'call', '0xS:0x001:hello_world')).code).toBe(0)
    await home.json('authz', 'revoke', of('ben'), '--ban', '--reason', 'spam')
    const { did: operator } = await home.json('identity', 'show') as { did: string }
    // What it is told is what is to be done about it: another session is not.
    const says = `error CMESH_IAM_BANNED: The identity ${of('ben')} is banned from this mesh: it may do nothing there, not even read, and no new session changes that. `
      + `The operator, ${operator}, can lift the ban (\`cmesh authz revoke ${of('ben')} --unban\`), and so can who was granted \`write 0xIW:unban\`.\n`
    for (const args of [['call', '0xS:0x001:hello_world'], ['login', '--yes']]) expect(await as('ben', ...args)).toMatchObject({ code: 1, stderr: says })
    expect(JSON.parse((await as('ben', 'call', '0xS:0x001:hello_world', '--json')).stdout)).toMatchObject({
      error: { code: 'CMESH_IAM_BANNED', status: 403, retry: 'terminal', detail: { did: of('ben'), operator } },
    })
    expect((await as('cat', 'call', '0xS:0x001:hello_world')).code).toBe(0)
    await home.json('authz', 'revoke', of('ben'), '--unban')
    // Tokens say when they were made in whole seconds: one of the ban's own second is refused too.
    await until('the second of the ban is over', async () => (await as('ben', 'call', '0xS:0x001:hello_world')).code === 0)
  })

  test('a capability of what its maker may not do is made with a warning, and one of what it may without', async () => {
    const made = async (name: string, ...permissions: readonly string[]): Promise<string> => {
      const { code, stderr } = await as('poor', 'capability', 'export', of('ben'), ...permissions, '--out', join(home.directory, name))
      expect(code).toBe(0)
      return stderr
    }
    await as('poor', 'whoami')
    expect(await made('own.cap', 'read 0xS:>')).toBe('')
    expect(await made('none.cap', 'write 0xSW:0x002:>', 'read 0xS:0x002:get')).toBe('warning: you may not `write 0xSW:0x002:>` yourself: the capability gives nothing of that as long as you may not\n')
    expect(await made('part.cap', 'read,write 0xS:0x002:>')).toBe('warning: of `read,write 0xS:0x002:>` you may yourself only `read 0xS:0x002:>`: the capability gives no more as long as you may not\n')
  })

  test('a capability goes from hand to hand, narrows on its way, and ends with any link of it', async () => {
    const [one, two] = [join(home.directory, 'ben.cap'), join(home.directory, 'cat.cap')]
    await home.json('authz', 'grant', of('ann'), 'write 0xSW:0x002:>')
    const first = JSON.parse((await as('ann', 'capability', 'export', of('ben'), 'write 0xSW:0x002:>', '--depth', '1', '--expires', '12h', '--out', one, '--json')).stdout) as { jti: string, holder: string }
    expect(first.holder).toBe(of('ben'))
    // Wider than it was handed on, not one's own, or further than it may go: nothing is written.
    expect(await as('ben', 'capability', 'delegate', one, of('cat'), 'write 0xSW:>', '--out', two)).toMatchObject({ code: 1, stderr: expect.stringContaining('link 2: it is wider than the link before it') })
    expect(await as('cat', 'capability', 'delegate', one, of('ann'), '--out', two)).toMatchObject({ code: 2, stderr: expect.stringContaining('was handed to') })
    expect(await as('ben', 'capability', 'delegate', one, of('cat'), `write ${INCREMENT}`, '--out', two)).toMatchObject({ code: 0 })
    expect(await as('cat', 'capability', 'delegate', two, (await home.json('identity', 'show', 'default') as { did: string }).did, '--out', `${two}2`)).toMatchObject({ code: 1, stderr: expect.stringContaining('CMESH_IAM_CAPABILITY') })
    expect(await as('ben', 'capability', 'import', two)).toMatchObject({ code: 1, stderr: expect.stringContaining('it was handed to somebody else') })
    expect(await as('cat', 'capability', 'import', two)).toMatchObject({ code: 0, stdout: expect.stringContaining(of('ann')) })
    await login('cat')
    expect((await as('cat', 'call', INCREMENT)).code).toBe(0)
    expect((await as('cat', 'authz', 'explain', of('cat'), INCREMENT)).stdout).toContain('capability')
    expect((await as('ann', 'capability', 'revoke', first.jti)).stdout).toBe(`revoked ${first.jti}\n`)
    expect(await as('cat', 'call', INCREMENT)).toMatchObject({ code: 1, stderr: expect.stringContaining('CMESH_IAM_DENIED') })
    expect((await as('cat', 'capability', 'list')).stdout).toContain('counts no more')
  })
})

describe('through the SDK', () => {
  const room = new NodeRoom()
  const [operator, author, stranger] = [KeyPair.generate(), KeyPair.generate(), KeyPair.generate()]
  const args = ['--operator', operator.did, '--set', `iam.grants=${author.did}=deploy 0xSW:0x000:deploy`]
  const raws: RawNats[] = []
  let node: TestNode
  beforeAll(async () => { node = await room.start({ args }) })
  afterEach(() => { for (const raw of raws.splice(0)) raw.close() })
  afterAll(() => room.close())

  const using = async <T>(identity: KeyPair, use: (client: MeshClient) => Promise<T>): Promise<T> => {
    const client = await connect({ url: node.url, mesh: node.descriptor.did, identity, timeoutMs: 20_000, drainMs: 0, onWarning: () => undefined })
    try {
      return await use(client)
    } finally {
      await client.close()
    }
  }
  const grantsOf = (did: string): Promise<{ grants: { id: string, by: string, perm: string }[] }> => using(operator, async client => (await client.call(`0xI:grants:${JSON.stringify([did])}`)).json())
  const packageFor = (by: KeyPair, salt: number): Buffer => signPackage(encodePackage({
    salt: Buffer.alloc(16, salt), strategy: 'immutable', manifest: packageManifest({ name: 'mine', version: '1.0.0', compiler: 'hand', sdk: '1' }), init: Buffer.alloc(0), module: MODULE,
  }), { purpose: 'deploy' }, by)

  test('the grants of the configuration stand in the log once, and what was taken back stays so, whatever restarts', async () => {
    const { grants } = await grantsOf(author.did)
    expect(grants).toEqual([expect.objectContaining({ perm: 'deploy 0xSW:0x000:deploy', by: node.descriptor.did })])
    await node.stop()
    node = await room.start({ dir: node.dir, args })
    expect((await grantsOf(author.did)).grants).toEqual(grants)
    await using(operator, client => client.call('0xIW:ungrant', { body: JSON.stringify({ did: author.did, all: true }) }))
    await node.stop()
    node = await room.start({ dir: node.dir, args })
    expect((await grantsOf(author.did)).grants).toEqual([])
    await using(operator, client => client.call('0xIW:grant', { body: JSON.stringify({ did: author.did, permission: 'deploy 0xSW:0x000:deploy' }) }))
  })

  test('a deployment is signed by itself, also when the session it began under is gone', async () => {
    await using(author, async client => {
      expect((await client.deploy({ wasm: MODULE, name: 'one', version: '1.0.0' })).codeHash).toBe(codeHash(MODULE))
      // The mesh ends the session; the client finds out when it asks, and signs again under the next.
      await client.call('0xIW:hangup')
      expect((await client.deploy({ wasm: MODULE, name: 'two', version: '1.0.0' })).codeHash).toBe(codeHash(MODULE))
    })
  })

  test('without the signature, or with one for anything else, nothing is deployed', async () => {
    const nats = await RawNats.connect(node.url)
    raws.push(nats)
    const session = await nats.login(author)
    const other = await nats.login(author)
    const body = packageFor(author, 1)
    const fqmn = '0xSW:0x000:deploy'
    const send = async (proof: string | undefined, id = Buffer.alloc(16, 7)): Promise<unknown> => {
      const headers = encodeHeaders(proof === undefined ? [] : [[PROOF_HEADER, proof]])
      const frame = encodeRequest({ id, fqmn, token: Buffer.from(session.token), deadlineMs, receipt: 'none', headers, body })
      const { status, code } = await nats.ask(requestSubject(session.sid), frame)
      return [status, code]
    }
    const deadlineMs = Date.now() + 60_000
    const good = { id: '07'.repeat(16), fqmn, body, deadlineMs, token: Buffer.from(session.token) }
    for (const proof of [
      undefined, 'AAAA', makeRequestProof(good, stranger), makeRequestProof({ ...good, fqmn: '0xSW:0x000:replace:["0x002"]' }, author),
      makeRequestProof({ ...good, body: packageFor(author, 2) }, author), makeRequestProof({ ...good, deadlineMs: deadlineMs + 1 }, author),
      makeRequestProof({ ...good, token: Buffer.from(other.token) }, author), makeRequestProof({ ...good, id: '08'.repeat(16) }, author),
    ]) expect(await send(proof)).toEqual([403, 'CMESH_IAM_PROOF'])
    const proof = makeRequestProof(good, author)
    expect(await send(proof)).toEqual([200, undefined])
    expect(await send(proof, Buffer.alloc(16, 9))).toEqual([403, 'CMESH_IAM_PROOF'])
  })
})
