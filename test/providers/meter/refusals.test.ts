/** Every refusal of the meter: its code, where it points, and what it tells the author to do instead. */
import { describe, expect, test } from '@jest/globals'
import { METER_LIMITS, meterModule, readModule } from '../../../providers/contracts/meter/index.ts'
import { refusal } from '../../support/refusal.ts'
import { HEADER, body, custom, name, rawModule, section, u32, vector } from '../support/raw-module.ts'
import type { RawModule } from '../support/raw-module.ts'

const many = <T>(count: number, item: T): T[] => new Array<T>(count).fill(item)
const code = (...instructions: number[]): RawModule => ({ bodies: [body(...instructions)] })
const imported = (module: string, field: string, rest: readonly number[] = [0, 0]): RawModule => ({ imports: [[...name(module), ...name(field), ...rest]] })
const exported = (field: string, kind = 2, index = 0): RawModule => ({ exports: [[...name(field), kind, ...u32(index)]] })

/** Of an empty module with one function, whose instructions begin at byte 28. */
const AT = 'function 0, byte 28'

type Row = readonly [title: string, module: RawModule | Uint8Array, code: string, message: string]

const ROWS: readonly Row[] = [
  // --- instructions
  ['try', code(0x06, 0x40, 0x0b), 'OPCODE', `(${AT}): 0x06 is exception handling. There are no exceptions`],
  ['throw', code(0x08, 0), 'OPCODE', `(${AT}): 0x08 is exception handling. There are no exceptions`],
  ['try_table', code(0x1f, 0x40, 0, 0x0b), 'OPCODE', '0x1f is exception handling'],
  ['catch_all', code(0x19), 'OPCODE', '0x19 is exception handling'],
  ['return_call', code(0x12, 0), 'OPCODE', `(${AT}): 0x12 is a tail call. Compile without tail calls`],
  ['return_call_indirect', code(0x13, 0, 0), 'OPCODE', '0x13 is a tail call'],
  ['call_ref', code(0x14, 0), 'OPCODE', '0x14 is a reference type. Compile without reference types'],
  ['a typed select', code(0x41, 0, 0x41, 0, 0x41, 0, 0x1c, 1, 0x7f, 0x1a), 'OPCODE', '(function 0, byte 34): 0x1c is a typed select. Compile without reference types'],
  ['table.get', code(0x25, 0), 'OPCODE', '0x25 is an instruction on tables. The table keeps what the module puts there'],
  ['table.set', code(0x26, 0), 'OPCODE', '0x26 is an instruction on tables'],
  ['ref.null', code(0xd0, 0x70, 0x1a), 'OPCODE', '0xd0 is a reference type'],
  ['ref.func', code(0xd2, 0, 0x1a), 'OPCODE', '0xd2 is a reference type'],
  ['garbage collection', code(0xfb, 0, 0), 'OPCODE', '0xfb is garbage-collected types. Compile for linear memory'],
  ['SIMD', code(0xfd, 12, ...many(16, 0), 0x1a), 'OPCODE', `(${AT}): 0xfd is SIMD. Compile without SIMD (AssemblyScript: \`--disable simd\``],
  ['threads', code(0xfe, 3, 0), 'OPCODE', '0xfe is threads. A contract runs alone'],
  ['data.drop', { ...code(0xfc, 9, 0), dataCount: 1, data: [[1, 1, 0]] }, 'OPCODE', '0xfc 9 is `data.drop`. A dropped segment could not be put back'],
  ['table.init', code(0xfc, 12, 0, 0), 'OPCODE', '0xfc 12 is an instruction on tables'],
  ['elem.drop', code(0xfc, 13, 0), 'OPCODE', '0xfc 13 is an instruction on tables'],
  ['table.copy', code(0xfc, 14, 0, 0), 'OPCODE', '0xfc 14 is an instruction on tables'],
  ['table.fill', code(0xfc, 17, 0), 'OPCODE', '0xfc 17 is an instruction on tables'],
  ['an unknown instruction', code(0x27), 'OPCODE', `(${AT}): 0x27 is not on the list.`],
  ['an unknown prefixed instruction', code(0xfc, 18), 'OPCODE', '0xfc 18 is not on the list.'],
  ['a second memory in a load', code(0x41, 0, 0x28, 0x42, 0, 0, 0x1a), 'MEMORY', '(function 0, byte 30): it names a memory. A contract has one memory.'],
  ['a second memory in memory.size', code(0x3f, 1, 0x1a), 'MEMORY', 'it names a memory'],
  ['a second memory in memory.copy', code(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 10, 0, 1), 'MEMORY', 'it names a memory'],
  ['a second table in call_indirect', code(0x41, 0, 0x11, 0, 1), 'TABLE', 'it names a table. Compile without reference types'],
  // --- types
  ['a block with parameters', code(0x02, 0x00, 0x0b), 'TYPE', `(${AT}): a block needs multiple values. A block or function gives at most one value`],
  ['a block of a reference', code(0x02, 0x70, 0x00, 0x0b, 0x1a), 'TYPE', 'a block needs a reference type'],
  ['a block of a vector', code(0x02, 0x7b, 0x00, 0x0b, 0x1a), 'TYPE', 'a block needs SIMD'],
  ['a local of a vector', { bodies: [[1, 1, 0x7b, 0x0b]] }, 'TYPE', '(function 0, byte 29): it is SIMD'],
  ['a local of a reference', { bodies: [[1, 1, 0x6f, 0x0b]] }, 'TYPE', 'it is a reference type'],
  ['a local of no type', { bodies: [[1, 1, 0x20, 0x0b]] }, 'TYPE', '0x20 is no value type'],
  ['two results', { types: [[0x60, 0, 2, 0x7f, 0x7f]] }, 'TYPE', '(byte 11): a function type gives 2 values. A block or function gives at most one value'],
  ['a reference as a parameter', { types: [[0x60, 1, 0x6f, 0]] }, 'TYPE', '(byte 13): it is a reference type'],
  ['an exception as a parameter', { types: [[0x60, 1, 0x69, 0]] }, 'TYPE', 'it is exception handling'],
  ['a structure', { types: [[0x5f, 0]] }, 'TYPE', '0x5f is no function type. Compile for linear memory'],
  ['a recursive group', { types: [[0x4e, 1, 0x60, 0, 0]] }, 'TYPE', '0x4e is no function type. Compile for linear memory'],
  // --- imports
  ['env.abort', imported('env', 'abort'), 'IMPORT', 'imports env.abort, which is not part of the host interface. Compile it with the contract kit'],
  ['Math.random', imported('env', 'seed'), 'IMPORT', 'imports env.seed, which is not part of the host interface. `Math.random` is not available: replicas would disagree'],
  ['Date.now', imported('env', 'Date.now'), 'IMPORT', '`Date.now` is not available: use `ctx.time()`.'],
  ['Date.getTimezoneOffset', imported('env', 'Date.getTimezoneOffset'), 'IMPORT', 'Time is not available: use `ctx.time()`.'],
  ['performance.now', imported('env', 'performance.now'), 'IMPORT', '`performance.now` is not available: use `ctx.time()`.'],
  ['trace', imported('env', 'trace'), 'IMPORT', '`trace` is not available: emit an event.'],
  ['console.log', imported('env', 'console.log'), 'IMPORT', 'There is no console: emit an event'],
  ['WASI', imported('wasi_snapshot_preview1', 'fd_write'), 'IMPORT', 'imports wasi_snapshot_preview1.fd_write, which is not part of the host interface. WASI is not available'],
  ['Math', imported('Math', 'sin'), 'IMPORT', 'JavaScript is not available to a contract'],
  ['C++ exceptions', imported('env', '__cxa_throw'), 'IMPORT', 'Exceptions are not available'],
  ['an unknown host function', imported('cmesh', 'steal'), 'IMPORT', 'imports cmesh.steal, which is not part of the host interface. The host interface has no such function'],
  ['anything else', imported('other', 'thing'), 'IMPORT', 'A contract imports from module `cmesh` only'],
  ['a host function with another signature', imported('cmesh', 'get'), 'IMPORT', 'imports cmesh.get () -> (), which is not part of the host interface. Its signature is (i32, i32) -> (i32).'],
  ['a memory', imported('env', 'memory', [2, 0, 1]), 'IMPORT', 'imports the memory env.memory, which is not part of the host interface.'],
  ['a table', imported('cmesh', 'table', [1, 0x70, 0, 1]), 'IMPORT', 'imports the table cmesh.table'],
  ['a global', imported('env', 'g', [3, 0x7f, 0]), 'IMPORT', 'imports the global env.g'],
  ['a tag', imported('env', 't', [4, 0, 0]), 'IMPORT', 'imports the tag env.t'],
  // --- exports
  ['a name of the meter', exported('__cm_gas'), 'EXPORT', 'at __cm_gas: names that begin with __cm_ belong to the meter.'],
  ['any such name', exported('__cm_'), 'EXPORT', 'at __cm_: names that begin with __cm_ belong to the meter.'],
  ['a long name', exported('x'.repeat(257)), 'EXPORT', 'a name has at most 256 bytes.'],
  ['a tag as export', exported('t', 4), 'EXPORT', 'at t: it is neither function, table, memory nor global.'],
  // --- memory
  ['no memory', Uint8Array.from([...HEADER, ...section(1, vector([[0x60, 0, 0]]))]), 'MEMORY', '(module): it has none. A contract exchanges its bytes through one memory'],
  ['two memories', { memory: [2, 0, 1, 0, 1] }, 'MEMORY', '(byte 16): there are 2; one is needed. A contract has one memory.'],
  ['a shared memory', { memory: [1, 3, 1, 1] }, 'MEMORY', '(byte 17): it is shared. A contract runs alone'],
  ['a 64-bit memory', { memory: [1, 4, 1] }, 'MEMORY', '(byte 17): it has 64-bit addresses. Compile for wasm32.'],
  ['too many pages', { memory: [1, 0, 65] }, 'MEMORY', 'it starts with 65 pages; at most 64 are allowed. Make the static data smaller'],
  ['data of another memory', { data: [[2, 0, 0x41, 0, 0x0b, 0]] }, 'MEMORY', '(data segment 0, byte 22): it names a memory. A contract has one memory.'],
  // --- tables
  ['two tables', { table: [2, 0x70, 0, 1, 0x70, 0, 1] }, 'TABLE', '(byte 16): there are 2; one is allowed. Compile without reference types'],
  ['a table of references', { table: [1, 0x6f, 0, 1] }, 'TABLE', '(byte 17): it is no table of functions. Compile without reference types'],
  ['a large table', { table: [1, 0x70, 0, ...u32(4_097)] }, 'TABLE', 'it has 4097 elements; at most 4096 are allowed.'],
  ['passive elements', { table: [1, 0x70, 0, 1], elements: [[1, 0, 0]] }, 'TABLE', '(element segment 0, byte 28): it does not put functions into the table at the start.'],
  ['elements at a computed place', { table: [1, 0x70, 0, 1], elements: [[0, 0x23, 0, 0x0b, 0]] }, 'TABLE', 'its initialiser is no constant'],
  // --- globals
  ['a global reference', { globals: [[0x70, 0, 0xd0, 0x70, 0x0b]] }, 'GLOBAL', '(global 0, byte 22): it is a reference type.'],
  ['a global vector', { globals: [[0x7b, 0, 0xfd, 12, ...many(16, 0), 0x0b]] }, 'GLOBAL', 'it is SIMD'],
  ['a shared global', { globals: [[0x7f, 2, 0x41, 0, 0x0b]] }, 'GLOBAL', 'it is shared'],
  ['a computed global', { globals: [[0x7f, 0, 0x41, 1, 0x41, 1, 0x6a, 0x0b]] }, 'GLOBAL', 'its initialiser is no constant. Initialise with a constant'],
  ['a global of another', { globals: [[0x7f, 0, 0x41, 1, 0x0b], [0x7f, 0, 0x23, 0, 0x0b]] }, 'GLOBAL', '(global 1, byte 27): its initialiser is no constant.'],
  // --- sections
  ['a tag section', { behind: section(13, [1, 0, 0]) }, 'SECTION', '(byte 19): the tag section is not on the list. There are no exceptions'],
  ['an unknown section', { behind: section(14, [0]) }, 'SECTION', '(byte 19): section 14 is not on the list.'],
  // --- limits
  ['many types', { types: many(1_025, [0x60, 0, 0]) }, 'LIMIT', '(byte 11): 1025 types; at most 1024 are allowed.'],
  ['many parameters', { types: [[0x60, 65, ...many(65, 0x7f), 0]] }, 'LIMIT', '65 parameters; at most 64 are allowed.'],
  ['many imports', { imports: many(65, [...name('cmesh'), ...name('reg'), 0, 0]) }, 'LIMIT', '65 imports; at most 64 are allowed.'],
  ['many functions', { bodies: many(4_097, body()) }, 'LIMIT', '4097 functions; at most 4096 are allowed.'],
  ['a long function', { bodies: [body(...many(65_536, 0x01))] }, 'LIMIT', 'it has 65538 bytes; at most 65536 are allowed. Split it into several functions.'],
  ['many locals', { bodies: [[2, ...u32(1_000), 0x7f, 25, 0x7e, 0x0b]] }, 'LIMIT', 'it has more than 1024 locals. Split it into several functions.'],
  ['locals beyond counting', { bodies: [[1, ...u32(0xffffffff), 0x7f, 0x0b]] }, 'LIMIT', 'it has more than 1024 locals.'],
  ['deep nesting', code(...many(256, [0x02, 0x40]).flat(), ...many(256, 0x0b)), 'LIMIT', 'blocks nest deeper than 256.'],
  ['a large br_table', code(0x41, 0, 0x0e, ...u32(1_025), ...many(1_026, 0)), 'LIMIT', 'a br_table has 1025 targets; at most 1024 are allowed. Split the `switch`.'],
  ['many globals', { globals: many(513, [0x7f, 0, 0x41, 0, 0x0b]) }, 'LIMIT', '513 globals; at most 512 are allowed.'],
  ['many exports', { exports: Array.from({ length: 1_025 }, (_, index) => [...name(`m${index}`), 2, 0]) }, 'LIMIT', '1025 exports; at most 1024 are allowed.'],
  ['many element segments', { table: [1, 0x70, 0, 1], elements: many(257, [0, 0x41, 0, 0x0b, 0]) }, 'LIMIT', '257 element segments; at most 256 are allowed.'],
  ['many elements', { table: [1, 0x70, 0, 1], bodies: [body()], elements: many(17, [0, 0x41, 0, 0x0b, ...u32(1_000), ...many(1_000, 0)]) }, 'LIMIT', '17000 functions in element segments; at most 16384 are allowed.'],
  ['many data segments', { data: many(1_025, [0, 0x41, 0, 0x0b, 0]) }, 'LIMIT', '1025 data segments; at most 1024 are allowed.'],
  ['many custom sections', { behind: many(65, custom('x', [])).flat() }, 'LIMIT', '65 custom sections; at most 64 are allowed.'],
  // --- broken bytes
  ['a truncated section', Uint8Array.from([...HEADER, 1, 5, 1]), 'MALFORMED', 'the module cannot be read at byte 10: it ends early.'],
  ['a number without end', Uint8Array.from([...HEADER, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), 'MALFORMED', 'a number has more than 32 bits.'],
  ['an unfinished function', { bodies: [[0, 0x02, 0x40, 0x0b]] }, 'MALFORMED', 'a function does not end where its bytes do.'],
  ['a function without a body', { functions: [0, 0], bodies: [body()] }, 'MALFORMED', 'the code section does not match the function section.'],
  ['code of the wrong type', code(0x41, 0), 'MALFORMED', 'the module is read without fault but its code or its types do not validate.'],
  ['no such import kind', imported('env', 'x', [9, 0]), 'MALFORMED', 'an import is of no known kind.'],
]

describe('a module is refused for', () => {
  test.each(ROWS)('%s', (_, module, expected, message) => {
    const refused = refusal(() => readModule(module instanceof Uint8Array ? module : rawModule(module)))
    expect(refused.code).toBe(`CMESH_DEPLOY_${expected}`)
    expect(refused.message).toContain(message)
    expect(refused.message).not.toMatch(/\{\w+\}/)
  })
})

test('the smallest contract is not refused', () => {
  expect(readModule(rawModule({ bodies: [body()] })).bodies).toHaveLength(1)
})

test('a module of more than 256 KiB is refused before it is read', () => {
  const { code: refused, message } = refusal(() => readModule(new Uint8Array(METER_LIMITS.moduleBytes + 1)))
  expect(refused).toBe('CMESH_DEPLOY_SIZE')
  expect(message).toBe('The module has 262145 bytes; at most 262144 are allowed.')
})

test('bytes that are no WebAssembly are refused by their beginning', () => {
  for (const bytes of [[], [0, 0x61, 0x73], [...HEADER.slice(0, 4), 2, 0, 0, 0], [...HEADER.slice(0, 4), 0x0d, 0, 1, 0]]) {
    const { code: refused, message } = refusal(() => readModule(Uint8Array.from(bytes)))
    expect(refused).toBe('CMESH_DEPLOY_MAGIC')
    expect(message).toBe('The module is not WebAssembly 1: it does not begin with the eight bytes 00 61 73 6d 01 00 00 00.')
  }
})

test('versions that nobody knows are refused with those that are known', () => {
  const { code: refused, message } = refusal(() => meterModule(rawModule(), { meter: 1, schedule: 9 }))
  expect(refused).toBe('CMESH_DEPLOY_METER')
  expect(message).toBe('Gas is asked to be counted by meter 1 with schedule 9; here it is counted by meter 1 with schedule 1.')
})

describe('a function is named in a refusal', () => {
  const bad = body(0x27)

  test('by what it is exported as', () => {
    const module = rawModule({ bodies: [body(), bad], exports: [[...name('call_add'), 0, 1]] })
    expect(refusal(() => readModule(module)).message).toContain('(function 1 (call_add), byte')
  })

  test('else by the name section, imports counted', () => {
    const names = custom('name', [1, ...sized(vector([[0, ...name('reg')], [1, ...name('helper')]]))])
    const module = rawModule({ types: [[0x60, 0, 0], [0x60, 1, 0x7f, 0]], imports: [[...name('cmesh'), ...name('reg'), 0, 1]], bodies: [bad], behind: names })
    expect(refusal(() => readModule(module)).message).toContain('(function 1 (helper), byte')
  })

  test('by its index when the name section is broken', () => {
    const module = rawModule({ bodies: [bad], behind: custom('name', [1, 9, 5]) })
    expect(refusal(() => readModule(module)).message).toContain('(function 0, byte')
  })

  test('without what would break a line of a log, and shortened', () => {
    const module = rawModule({ bodies: [bad], exports: [[...name(`a\nb\u001b${'c'.repeat(99)}`), 0, 0]] })
    expect(refusal(() => readModule(module)).message).toContain(`(function 0 (a?b?${'c'.repeat(60)}), byte`)
  })
})

function sized(content: readonly number[]): number[] {
  return [...u32(content.length), ...content]
}
