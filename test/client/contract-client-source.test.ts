import { beforeAll, describe, expect, jest, test } from '@jest/globals'
import { readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import ts from 'typescript'
import { generateClient } from '../../client/contract/client-source.ts'
import { compileContract } from '../../client/contract/compile.ts'
import type { ContractAbi } from '../../client/contract/abi.ts'
import { deployed, eventsOf, SHIPPED, sourceDirectory } from './support/deployed.ts'
import type { Deployed } from './support/deployed.ts'

// Compiling takes seconds on a machine that is busy.
jest.setTimeout(180_000)

const { write: source, directory } = sourceDirectory('client-source')

const SOURCE = `
import { Cell, StateMap } from 'cmesh/sdk'
@event class Moved { constructor(public to: string, public amount: u64, public key: Uint8Array, public all: i64[]) {} }
@event('moved.again') class Again { constructor(public on: bool, public __proto__: i32) {} }
@record class Deal { constructor(public buyer: string, public amount: u64, public key: Uint8Array, public open: bool) {} }
const deals = new StateMap<u64, Deal>('deals')
@init export function begin(owner: string): void {}
@migrate export function migrate(from: string): void {}
@reply export function answered(id: string, status: i32, body: string): void {}
@view export function echo(a: bool, b: i32, c: u32, d: i64, e: u64, f: string, g: Uint8Array): string { return a.toString() + b.toString() + c.toString() + d.toString() + e.toString() + f + g.toString() }
@view export function bools(x: bool[]): bool[] { return x }
@view export function u64s(x: u64[]): u64[] { return x }
@view export function i64s(x: i64): i64 { return x }
@view export function blobs(x: Uint8Array[]): Uint8Array[] { return x }
@view export function defaults(a: u64 = 18446744073709551615, b: string = 'it\\'s "so"', c: bool = true, d: i32 = -5): string { return a.toString() + b + c.toString() + d.toString() }
@view export function deal(id: u64): Deal { return deals.get(id) }
@view export function dealsOf(from: u64, to: u64): Deal[] { const all = new Array<Deal>(); for (let i = from; i < to; i++) all.push(deals.get(i)); return all }
export function open(id: u64, buyer: string): void { deals.set(id, new Deal(buyer, id, new Uint8Array(1), true)); new Moved(buyer, id, new Uint8Array(2), [-1, i64.MAX_VALUE]).emit(); new Again(true, 3).emit() }
@view export function on(options: string, hex: string): string { return options + hex }
@view export function address(): string { return 'mine' }
`

let abi: ContractAbi
let text = ''
let contract: Deployed
beforeAll(async () => {
  const built = await compileContract(await source('all/index.ts', SOURCE))
  abi = built.abi
  text = generateClient(abi, { name: 'every-thing' })
  contract = deployed(built)
})

type Call = (name: string, ...args: readonly unknown[]) => Promise<unknown>

/** The generated class over the contract in an engine; what was called, and the handlers that follow events. */
async function connected(): Promise<{ readonly call: Call, readonly client: Record<string, unknown>, readonly asked: string[], readonly emit: () => void }> {
  const file = await source('all/client.mjs', ts.transpileModule(text, { compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext } }).outputText)
  const module = await import(file) as Record<string, new (client: object, address: string) => Record<string, unknown>>
  const Contract = module['EveryThingContract']
  if (Contract === undefined) throw new Error('the class is not exported')
  const asked: string[] = []
  const handlers = new Map<string, (at: { readonly data: string }) => void>()
  const mesh = {
    call: async (fqmn: string, { args }: { readonly args: readonly unknown[] }) => {
      const [verb, , name = ''] = fqmn.split(':')
      asked.push(`${fqmn} ${JSON.stringify(args)}`)
      const said = contract.say(name, JSON.stringify(args), verb === '0xS')
      if (said.startsWith('CMESH_')) throw new Error(said)
      return { json: () => JSON.parse(said) as unknown }
    },
    subscribe: async (channel: string, handler: (at: { readonly data: string }) => void) => {
      handlers.set(channel, handler)
      return { channel }
    },
  }
  const client = new Contract(mesh, '0x00a')
  const call: Call = async (name, ...args) => await (client[name] as (...args: readonly unknown[]) => Promise<unknown>).apply(client, [...args])
  const emit = (): void => {
    for (const event of eventsOf(contract.call('open', '[77,"event"]'))) {
      const [topic = '', data = ''] = event.split(/ (.*)/s)
      handlers.get(`events.state.contracts.0x00a.${topic}`)?.({ data })
    }
  }
  return { call, client, asked, emit }
}

describe('the source of a typed client', () => {
  test('compiles under the strictest settings against the SDK, right uses of it too, wrong ones not', async () => {
    const root = new URL('../../', import.meta.url).pathname
    await source('all/client.ts', text)
    const uses = await source('all/uses.ts', `
import { connect } from 'cmesh'
import { EveryThingContract, type Deal, type MovedEvent } from './client.ts'
const contract = new EveryThingContract(await connect(), '0x001')
export const sum: bigint[] = [...await contract.u64s([1n, 2]), await contract.i64s(3n)]
export const deal: Deal = await contract.deal(7n, { timeoutMs: 1_000 })
export const amounts: readonly bigint[] = (await contract.dealsOf(1, 2n)).map((each) => each.amount)
export const blobs: readonly Uint8Array[] = await contract.blobs([new Uint8Array(1)])
export const nothing: void = await contract.open(1n, 'bob')
export const said: string = await contract.defaults()
const seen: MovedEvent[] = []
await contract.on('Moved', (event, { seq }) => { seen.push(event); void seq })
await contract.on('moved.again', ({ on }) => { const flag: boolean = on; void flag })
// @ts-expect-error a number is no address
await contract.open(1n, 2)
// @ts-expect-error there is no such function
await contract.begin('bob')
// @ts-expect-error there is no such event
await contract.on('moved', () => {})
`)
    await source('all/package.json', '{ "type": "module" }')
    const program = ts.createProgram([uses], {
      strict: true, noEmit: true, target: ts.ScriptTarget.ESNext, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext,
      noUncheckedIndexedAccess: true, exactOptionalPropertyTypes: true, noUnusedLocals: true, noUnusedParameters: true, verbatimModuleSyntax: true,
      erasableSyntaxOnly: true, isolatedModules: true, allowImportingTsExtensions: true, skipLibCheck: true, noPropertyAccessFromIndexSignature: true,
      noImplicitReturns: true, lib: ['lib.esnext.d.ts'], typeRoots: [join(root, 'node_modules/@types')], types: ['node'],
      paths: { cmesh: [join(root, 'client/index.ts')] },
    })
    // What the SDK's own files say is its own business.
    const own = ts.getPreEmitDiagnostics(program).filter(({ file }) => file === undefined || file.fileName.startsWith(directory()))
    expect(own.map(({ messageText, file, start = 0 }) => {
      const line = file?.text.slice(0, start).split('\n').length ?? 0
      return `${basename(file?.fileName ?? '')}:${line} ${ts.flattenDiagnosticMessageText(messageText, '\n')}`
    })).toEqual([])
  })

  test('calls views and writes, with values of every type', async () => {
    const { call, asked } = await connected()
    expect(await call('echo', true, -1, 2, -(2n ** 63n), 2n ** 64n - 1n, 'x"', Uint8Array.of(0, 255))).toBe('true-12-922337203685477580818446744073709551615x"0,255')
    expect(await call('bools', [true, false])).toEqual([true, false])
    expect(await call('u64s', [1n, 2, 2n ** 64n - 1n])).toEqual([1n, 2n, 2n ** 64n - 1n])
    expect(await call('i64s', -(2n ** 63n))).toBe(-(2n ** 63n))
    expect(await call('blobs', [Uint8Array.of(0, 255), new Uint8Array(0)])).toEqual([Uint8Array.of(0, 255), new Uint8Array(0)])
    expect(await call('open', 7n, 'bob')).toBeUndefined()
    expect(await call('deal', 7)).toEqual({ buyer: 'bob', amount: 7n, key: Uint8Array.of(0), open: true })
    expect(await call('dealsOf', 7, 8)).toEqual([{ buyer: 'bob', amount: 7n, key: Uint8Array.of(0), open: true }])
    expect(asked.slice(-3)).toEqual(['0xSW:0x00a:open ["7","bob"]', '0xS:0x00a:deal ["7"]', '0xS:0x00a:dealsOf ["7","8"]'])
    await expect(call('deal', 8)).rejects.toThrow('CMESH_CONTRACT_REVERT: there is nothing in deals')
  })

  test('gives defaults as the contract has them', async () => {
    const { call, asked } = await connected()
    expect(await call('defaults')).toBe('18446744073709551615it\'s "so"true-5')
    expect(asked).toEqual(['0xS:0x00a:defaults ["18446744073709551615","it\'s \\"so\\"",true,-5]'])
  })

  test('leaves out what only the mesh calls, and gives way where a name is taken', async () => {
    const { call, client } = await connected()
    expect(['begin', 'migrate', 'answered'].filter((name) => name in client)).toEqual([])
    expect(await call('on_', 'a', 'b')).toBe('ab')
    expect(await call('address_')).toBe('mine')
    expect(client['address']).toBe('0x00a')
  })

  test('reads events by their topics', async () => {
    const { call, emit } = await connected()
    const seen: unknown[] = []
    for (const topic of ['Moved', 'moved.again']) await call('on', topic, (event: unknown) => { seen.push(event) })
    emit()
    expect(seen).toEqual([
      { to: 'event', amount: 77n, key: new Uint8Array(2), all: [-1n, 2n ** 63n - 1n] },
      Object.fromEntries([['on', true], ['__proto__', 3]]),
    ])
  })

  test('is the same for the same ABI, and small for a small one', async () => {
    expect(generateClient(abi, { name: 'every-thing' })).toBe(text)
    const { abi: counter } = await compileContract(join(SHIPPED, 'counter'))
    const golden = new URL('./support/counter-client.ts.txt', import.meta.url)
    if (process.env['UPDATE_GOLDEN'] === '1') await writeFile(golden, generateClient(counter, { name: 'counter' }))
    expect(generateClient(counter, { name: 'counter' })).toBe(await readFile(golden, 'utf8'))
  })

  test('says nothing that its names could break out of', () => {
    const shape = { name: 'a.b-c', fields: [{ name: 'class', type: 'u64' }] } as const
    const hostile = generateClient({
      abi: 1, sdk: 'x', functions: [{ name: 'f', mode: 'view', params: [{ name: 'class', type: 'string', default: '\'+alert()+\'\n\\' }], returns: 'Promise' }],
      events: [shape, { ...shape, name: 'a.b.c' }], records: [{ name: 'Promise', fields: [{ name: 'x', type: 'bool' }] }],
    }, { name: '*/ alert() /*' })
    expect(ts.transpileModule(hostile, { reportDiagnostics: true }).diagnostics).toEqual([])
    expect(hostile).toContain('class_: string = \'\\\'+alert()+\\\'\\n\\\\\'')
    expect(hostile).toContain('Promise<PromiseRecord>')
    expect(hostile).toContain('* / alert() /*')
    expect(hostile).toContain('ABCEvent2')
  })
})
