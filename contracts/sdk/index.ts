/**
 * The contract SDK, for AssemblyScript: `import { Cell, SortedMap, ctx, revert } from 'cmesh/sdk'`. Reference: docs/contract-sdk.md.
 *
 *   cell.ts, map.ts, sorted.ts   what a contract keeps between calls
 *   keys.ts                      keys of two parts
 *   state.ts                     the same below: bytes under keys of one's own making
 *   events.ts                    what it tells the world
 *   context.ts                   who calls, in which block, at what log time
 *   errors.ts, result.ts         refusing a call; what can fail without that
 *   calls.ts                     other contracts, messages to other addresses
 *   crypto.ts                    hashes, signatures, numbers nobody chose
 *   checked.ts                   amounts that do not wrap around
 *   json.ts, parse.ts, hex.ts    text, numbers and bytes as JSON, and back
 *
 * `arguments.ts` and `results.ts` are for the wrappers that the compiler writes around every exported function; they, the
 * encodings in `reader.ts`, `escapes.ts`, `writer.ts`, `text.ts` and `values.ts`, and the raw host interface in `host.ts` are no part of the SDK.
 */
export { args, Args, call, read, send } from './calls'
export { Cell } from './cell'
export { checked } from './checked'
export { ctx } from './context'
export { crypto } from './crypto'
export { require, revert } from './errors'
export { emit, emitText } from './events'
export { hex, unhex } from './hex'
export { number, quote } from './json'
export { Pair, pair } from './keys'
export { StateMap } from './map'
export { member, parse } from './parse'
export { Nothing } from './reader'
export { failure, Result, success } from './result'
export { Entry, Range, SortedMap } from './sorted'
export { state } from './state'
