/**
 * The contract SDK, for AssemblyScript: `import { state, emit, revert, ctx } from 'cmesh/sdk'`.
 *
 *   state.ts      what a contract keeps between calls
 *   events.ts     what it tells the world
 *   context.ts    who calls, in which block, at what log time
 *   errors.ts     refusing a call
 *   json.ts       text and numbers as JSON
 *
 * `arguments.ts` and `results.ts` are for the wrappers that the compiler writes around every exported function, and
 * `host.ts` is the raw host interface; a contract needs none of the three.
 */
export { ctx } from './context'
export { revert } from './errors'
export { emit, emitText } from './events'
export { number, quote } from './json'
export { state } from './state'
