/** The ways to state, one by one: each goes through the guard, or leads nowhere. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import ts from 'typescript'
import { encodeBatch as encodeBatchFrame } from '../../cmtp/batch.ts'
import { decodeBatchReply } from '../../cmtp/batch-reply.ts'
import { encodeRequest } from '../../cmtp/frame.ts'
import { encodeHeaders, type HeaderList } from '../../cmtp/headers.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import type { Session } from '../../cmtp/identity/login.ts'
import { inboxPrefix, requestSubject, REQUEST_WILDCARD, serviceSubject } from '../../cmtp/subject.ts'
import type { AuthContext } from '../../services/iam/guard.ts'
import type { HopNotes } from '../../services/endpoint.ts'
import type { ServiceName } from '../../services/router/dispatcher.ts'
import { ServiceListener } from '../../services/router/remote.ts'
import { Router } from '../../services/router/service.ts'
import { encodeBatch } from '../../services/state/batch.ts'
import { contentOf } from '../support/blocks.ts'
import { testCall } from '../support/calls.ts'
import { HandBus } from '../support/hand-bus.ts'
import { failureOf, startIam } from '../support/iam.ts'
import { readAnswer, startMesh, type TestMesh } from '../support/mesh.ts'
import { transactionOf } from '../support/replica.ts'
import { sources } from '../support/sources.ts'

const SERVICES: readonly ServiceName[] = ['iam', 'registrar', 'state', 'events', 'consensus']
/** One address of each service that reads and, where there is one, one that writes. */
const ADDRESSES: Readonly<Record<ServiceName, readonly string[]>> = {
  iam: ['0xI:whoami', '0xIW:hangup'],
  registrar: ['0xR:resolve:known.mcom', '0xRW:release:known.mcom'],
  state: ['0xS:0x002:get', '0xS:0x002', '0xSW:0x002:increment:[1]', '0xSW:0x000:deploy'],
  events: ['0xE:events.state.contracts.0x001.blah_blah', '0xEW:chan:x'],
  consensus: ['0xC:status', `0xC:tx:${'0'.repeat(32)}`],
}

let mesh: TestMesh
let real: AuthContext
let forgeries: Readonly<Record<string, AuthContext>>
beforeAll(async () => {
  mesh = await startMesh()
  await mesh.register(mesh.root, mesh.operator, 'known.mcom', '0xS:0x002')
  real = await mesh.enter(mesh.root)
  const stranger = await startIam({ signer: mesh.mesh })
  const revoked = await mesh.open({ identity: mesh.operator })
  const gone = await mesh.enter(revoked)
  mesh.guard.revoke({ sid: revoked.sid })
  forgeries = {
    'nothing': undefined as unknown as AuthContext,
    'a literal of the right shape': { ...real, permissions: real.permissions } as AuthContext,
    'an object of its class without its heart': Object.create(Object.getPrototypeOf(real) as object) as AuthContext,
    'a proxy of a real one': new Proxy(real, {}),
    'one of another guard of the same mesh': await stranger.enter(await stranger.open({ identity: mesh.operator })),
    'one that was revoked': gone,
  }
  await stranger.iam.stop()
})
afterAll(() => mesh.stop())

/** Fails when state is another afterwards than it was. */
async function untouched(work: () => Promise<void>): Promise<void> {
  const [head, content, events] = [mesh.state.head, contentOf(mesh.store), await mesh.events.count('chan')]
  await work()
  expect(mesh.state.head).toBe(head)
  expect(contentOf(mesh.store)).toEqual(content)
  expect(await mesh.events.count('chan')).toBe(events)
}

const notes = (): HopNotes => ({ gas: 0n, before: undefined, after: undefined })
const noSession = { code: 'CMESH_IAM_NO_SESSION', status: 401 }

describe('the State service itself', () => {
  test('reads and writes for nobody but whom its guard knows', async () => {
    await untouched(async () => {
      for (const [what, forged] of Object.entries(forgeries)) {
        const read = await failureOf(() => mesh.state.read(testCall('0xS:0x002:get'), forged, notes()))
        const write = await failureOf(() => mesh.state.write(testCall('0xSW:0x002:increment:[1]', { deadlineMs: mesh.time.ms + 1_000 }), forged, notes()))
        const resolve = await failureOf(() => mesh.registrar.handle(testCall('0xR:resolve:known.mcom'), forged, notes()))
        const release = await failureOf(() => mesh.registrar.handle(testCall('0xRW:release:known.mcom'), forged, notes()))
        for (const failure of [read, write, resolve, release]) expect({ what, ...failure, code: failure.code }).toMatchObject({ what, ...noSession })
      }
    })
    // The real one gets through: what was refused was refused for the context alone.
    expect(mesh.state.read(testCall('0xS:0x002:get'), real, notes())).toMatchObject({ status: 200 })
  })
})

describe.each(SERVICES)('the endpoint of %s', service => {
  test.each(ADDRESSES[service])('answers %s for nobody but whom the guard knows', async fqmn => {
    await untouched(async () => {
      for (const [what, forged] of Object.entries(forgeries)) {
        const direct = await mesh.endpoints[service].call(testCall(fqmn, { auth: forged }))
        const dispatched = await mesh.dispatcher.dispatch(testCall(fqmn, { auth: forged }))
        for (const reply of [direct, dispatched]) {
          expect({ what, status: reply.status, body: JSON.parse(Buffer.from(reply.body).toString()) as unknown }).toMatchObject({ what, status: 401, body: { code: noSession.code, prompt: 'identity' } })
        }
      }
    })
  })

  test.each(ADDRESSES[service])('answers %s over the bus for nobody without a good token of the session it names', async fqmn => {
    const bus = new HandBus()
    const listener = new ServiceListener({ bus, clock: mesh.time, log: mesh.log, service, handler: mesh.endpoints[service].call })
    listener.start()
    const other = await mesh.open()
    const stranger = await startIam()
    const foreign = await stranger.open()
    const tries: readonly (readonly [string, HeaderList])[] = [
      ['', []], ['', [['x-cmesh-session', mesh.root.sid]]], [mesh.root.token, []], [mesh.root.token, [['x-cmesh-session', other.sid]]],
      [`${mesh.root.token.slice(0, -6)}AAAAAA`, [['x-cmesh-session', mesh.root.sid]]], [foreign.token, [['x-cmesh-session', foreign.sid]]],
    ]
    await untouched(async () => {
      for (const [token, headers] of tries) {
        const data = encodeRequest({ id: Buffer.alloc(16), fqmn, token: Buffer.from(token), deadlineMs: mesh.time.ms + 1_000, receipt: 'full', headers: encodeHeaders(headers) })
        bus.bring(serviceSubject(service, 'call'), { subject: '', reply: '_INBOX.a.1', data })
      }
      await listener.drain()
      const answers = bus.published.map(({ data }) => readAnswer(data))
      expect(answers.map(({ status, code }) => ({ status, code }))).toEqual(tries.map(() => ({ status: 401, code: noSession.code })))
      for (const { layers } of answers) expect(layers.map(layer => [layer.hop, layer.decision])).toEqual([[service, 'denied']])
    })
    await stranger.iam.stop()
  })
})

describe('the front door', () => {
  let guest: Session
  beforeAll(async () => { guest = await mesh.open() })

  test('lets nobody in by a token on another session\'s subject, alone or in a batch, over the bus or in process', async () => {
    const bus = new HandBus()
    const [singly, together] = [`${inboxPrefix(guest.sid)}1`, `${inboxPrefix(guest.sid)}2`]
    const router = new Router({ bus, frontDoor: mesh.frontDoor, log: mesh.log })
    await router.start()
    const all = Object.values(ADDRESSES).flat()
    await untouched(async () => {
      for (const fqmn of all) bus.bring(REQUEST_WILDCARD, { subject: requestSubject(guest.sid), reply: singly, data: mesh.frame(mesh.root, fqmn) })
      const batch = encodeBatchFrame({
        id: Buffer.alloc(16, 1), token: Buffer.from(mesh.root.token), deadlineMs: mesh.time.ms + 1_000, receipt: 'hash', entries: all.map(fqmn => ({ fqmn })),
      })
      bus.bring(REQUEST_WILDCARD, { subject: requestSubject(guest.sid), reply: together, data: batch })
      await router.drain()
      const at = (place: string): readonly Uint8Array[] => bus.published.filter(({ subject }) => subject === place).map(({ data }) => data)
      const singles = at(singly).map(data => readAnswer(data).status)
      const entries = at(together).flatMap(data => decodeBatchReply(data).entries.map(entry => entry.status))
      expect({ singles, entries }).toEqual({ singles: all.map(() => 401), entries: all.map(() => 401) })
      for (const fqmn of all) expect(readAnswer(await mesh.frontDoor.route(mesh.frame(mesh.root, fqmn), guest.sid)).status).toBe(401)
    })
  })
})

describe('the log', () => {
  const stranger = KeyPair.generate()

  test('a batch that no member signed is ordered, and applied as an empty block', async () => {
    const content = contentOf(mesh.store)
    const { seq } = mesh.state.head
    const transaction = transactionOf('0xSW:0x002:increment:[1000]', { sub: mesh.operator.did, deadlineMs: mesh.time.ms + 60_000 })
    const forged = encodeBatch({ member: stranger.did, proposedMs: mesh.time.ms, transactions: [transaction] }, bytes => stranger.sign(bytes))
    const claimed = encodeBatch({ member: mesh.node, proposedMs: mesh.time.ms, transactions: [transaction] }, bytes => stranger.sign(bytes))
    for (const [i, data] of [forged, claimed, Buffer.from('noise')].entries()) {
      await mesh.consensus.propose({ id: `${i}`.repeat(32), data, deadlineMs: mesh.time.ms + 60_000 })
    }
    expect(mesh.state.head.seq).toBe(seq + 3)
    expect(contentOf(mesh.store)).toEqual(content)
    expect(mesh.state.outcome(transaction.id)).toBeUndefined()
    // The mesh goes on.
    expect(await mesh.ask(mesh.root, '0xSW:0x002:increment:[1]')).toMatchObject({ status: 200 })
  })
})

describe('in the sources', () => {
  // The kit's sandbox has spaces and an engine of its own, in memory, and no mesh; that no mesh has anything of it stands below.
  const parsed = sources().filter(({ file }) => file.endsWith('.ts') && !file.startsWith('node/kit/')).map(({ file, text }) => ({ file, source: ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true) }))

  /** Files in which a node is found, and what it says. */
  function found(matches: (node: ts.Node) => boolean): { readonly file: string, readonly text: string }[] {
    const all: { file: string, text: string }[] = []
    for (const { file, source } of parsed) {
      const visit = (node: ts.Node): void => {
        if (matches(node)) all.push({ file, text: node.getText(source) })
        ts.forEachChild(node, visit)
      }
      visit(source)
    }
    return all
  }
  const filesOf = (all: readonly { readonly file: string }[]): string[] => [...new Set(all.map(({ file }) => file))].sort()
  const calls = (name: string): { readonly file: string, readonly text: string }[] =>
    found(node => ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression) && node.expression.name.text === name)
  const importsOf = (target: string): string[] => filesOf(found(node =>
    ts.isImportDeclaration(node) && !node.getText().startsWith('import type ') && ts.isStringLiteral(node.moduleSpecifier)
    && node.moduleSpecifier.text.endsWith(target)))

  test('the guard alone makes an AuthContext, and nobody asserts that something is one', () => {
    expect(filesOf(found(node => ts.isNewExpression(node) && node.expression.getText() === 'AuthContext'))).toEqual(['services/iam/guard.ts'])
    expect(filesOf(found(node => ts.isClassDeclaration(node) && node.name?.text === 'AuthContext'))).toEqual(['services/iam/guard.ts'])
    expect(found(node => (ts.isAsExpression(node) || ts.isTypeAssertionExpression(node)) && /\bAuthContext\b/.test(node.type.getText()))).toEqual([])
    // Where one passes for another type it could be anything: no `any` comes near it.
    expect(found(node => ts.isAsExpression(node) && node.type.kind === ts.SyntaxKind.AnyKeyword)).toEqual([])
  })

  test('State alone has an applier and a proposer', () => {
    expect(importsOf('/applier.ts')).toEqual(['services/state/service.ts'])
    expect(importsOf('/proposer.ts')).toEqual(['services/state/service.ts'])
  })

  test('the proposer alone proposes, and the applier alone commits', () => {
    // A provider hands a proposal to its own session.
    expect(filesOf(calls('propose'))).toEqual(['providers/consensus/jetstream.ts', 'services/state/proposer.ts'])
    // A contract's own journal commits too, into the space it was given.
    expect(filesOf(calls('commit'))).toEqual(['providers/contracts/wasm.ts', 'services/state/applier.ts'])
  })

  test('the spaces of the store are reached by State and its applier, and by the stores themselves', () => {
    const reached = calls('space').filter(({ file }) => !file.startsWith('providers/state/'))
    // What deploys and what tries a deployment out are given them by State and its applier; an audit and a replay read a log that no node has open.
    expect(filesOf(reached)).toEqual([
      'node/archive/log-audit.ts', 'services/contracts/deployments.ts', 'services/contracts/dry-run.ts',
      'services/replay/pass.ts', 'services/replay/past.ts', 'services/replay/replay.ts', 'services/state/applier.ts',
      'services/state/checkpoints.ts', 'services/state/service.ts', 'services/state/state-reads.ts', 'services/state/transaction-run.ts', 'services/state/views.ts',
    ])
    // What State hands out of the system space has no way to change it.
    const classes = parsed.flatMap(({ source }) => source.statements.filter(ts.isClassDeclaration))
    const system = classes.flatMap(each => each.members.filter(ts.isGetAccessorDeclaration))
      .filter(member => member.name.getText() === 'system').map(member => member.type?.getText())
    expect(system).toEqual(["Pick<Space, 'get'>"])
  })

  test('contracts run in State\'s views and in transactions alone', () => {
    const run = calls('call').filter(({ text }) => /engine\.call\(/.test(text))
    expect(filesOf(run)).toEqual(['services/contracts/execution.ts', 'services/state/view-run.ts'])
    expect(importsOf('/view-run.ts')).toEqual(['services/replay/past.ts', 'services/replay/replay.ts', 'services/state/views.ts'])
    const tried = calls('dryRun').filter(({ text }) => /engine\.dryRun\(/.test(text))
    expect(filesOf(tried)).toEqual(['services/contracts/dry-run.ts'])
    for (const part of ['/execution.ts', '/deployments.ts', '/deliveries.ts'] as const) {
      expect(importsOf(part).filter(file => !file.startsWith('services/contracts/'))).toEqual({
        '/execution.ts': ['services/replay/past.ts', 'services/state/view-run.ts'],
        '/deployments.ts': ['services/replay/past.ts', 'services/state/log-effects.ts'], '/deliveries.ts': [],
      }[part])
    }
  })

  test('a contract\'s context is asked for where its messages are delivered, and nowhere else', () => {
    expect(filesOf(calls('contractPrincipal'))).toEqual(['services/contracts/delivery.ts'])
    expect(importsOf('contracts/delivery.ts')).toEqual(['node/mesh.ts'])
  })

  test('what replays has a log that is read and an engine of its own, and no mesh has anything of it', () => {
    expect(found(node => ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier) && node.moduleSpecifier.text.includes('/replay/'))
      .map(({ file }) => file).filter(file => !file.startsWith('services/replay/') && file !== 'node/archive/replay.ts')).toEqual([])
    expect(importsOf('/lone-engine.ts')).toEqual(['node/archive/replay.ts'])
  })

  test('no mesh has anything of the kit', () => {
    expect(found(node => ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier) && node.moduleSpecifier.text.includes('/kit/'))).toEqual([])
  })

  test('State is read and written by its endpoint, by IAM and by the Registrar, which have a context to show', () => {
    const asked = found(node => ts.isCallExpression(node) && /(^|[.#])state\.(read|write)$/.test(node.expression.getText()))
    // The views are State's own room behind its service.
    expect(importsOf('/views.ts')).toEqual(['services/state/service.ts'])
    expect(filesOf(asked)).toEqual(['node/mesh.ts', 'services/iam/handler.ts', 'services/later/delivery.ts', 'services/registrar/service.ts'])
    for (const { text } of asked) expect(text).toMatch(/\(call, auth, notes/)
  })

  test('every handler of a service is given to an endpoint, and to nothing else', () => {
    const made = found(node => ts.isNewExpression(node) && node.expression.getText() === 'Endpoint')
    expect(filesOf(made)).toEqual(['node/mesh.ts'])
    const handlers = found(node => ts.isIdentifier(node) && node.text === 'handlers' && !ts.isVariableDeclaration(node.parent)).filter(({ file }) => file === 'node/mesh.ts')
    expect(handlers).toHaveLength(1)
    // The dispatcher and the listeners get endpoints.
    for (const { file, text } of calls('attach')) expect({ file, text }).toEqual({ file: 'node/node.ts', text: expect.stringMatching(/attach\('\w+', endpoints\.\w+\.call\)/) })
  })
})
