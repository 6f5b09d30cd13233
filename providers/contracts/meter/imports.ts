/**
 * What a module may import: the functions of the host interface (`contracts/ABI.md`), by exact name and signature, and nothing
 * else. What the languages of authors import without being asked is refused with a hint at what to use instead.
 */

/** Name and signature of each function of module `cmesh`. */
export const HOST_FUNCTIONS = {
  input: '() -> (i32)',
  reg: '(i32) -> ()',
  reglen: '() -> (i32)',
  output: '(i32, i32) -> ()',
  get: '(i32, i32) -> (i32)',
  set: '(i32, i32, i32, i32) -> ()',
  del: '(i32, i32) -> (i32)',
  scan: '(i32, i32, i32, i32, i32, i32) -> (i32)',
  emit: '(i32, i32, i32, i32) -> ()',
  call: '(i32, i32, i32, i32, i64) -> (i32)',
  send: '(i32, i32, i32, i32, i32, i32, i64) -> (i32)',
  ctx: '(i32) -> (i64)',
  ctxs: '(i32) -> (i32)',
  sha256: '(i32, i32, i32) -> ()',
  verify: '(i32, i32, i32, i32) -> (i32)',
  seed: '(i32) -> ()',
  fail: '(i32, i32) -> ()',
} as const

export type HostFunctionName = keyof typeof HOST_FUNCTIONS

export const HOST_SIGNATURES: ReadonlyMap<string, string> = new Map(Object.entries(HOST_FUNCTIONS))

const HINTS: ReadonlyMap<string, string> = new Map([
  ['env.abort', 'Compile it with the contract kit, which turns `abort` into `revert`.'],
  ['env.seed', '`Math.random` is not available: replicas would disagree; use `crypto.seed()`.'],
  ['env.Math.random', '`Math.random` is not available: replicas would disagree; use `crypto.seed()`.'],
  ['env.Date.now', '`Date.now` is not available: use `ctx.time()`.'],
  ['env.performance.now', '`performance.now` is not available: use `ctx.time()`.'],
  ['env.trace', '`trace` is not available: emit an event.'],
])

/** By module, or the start of a name in it. */
const FAMILIES: readonly (readonly [RegExp, string])[] = [
  [/^env\.(Date|performance)\b/, 'Time is not available: use `ctx.time()`.'],
  [/^env\.(console\b|process\.std)/, 'There is no console: emit an event, or `revert` with a reason.'],
  [/^(env\.(process|Reflect|crypto|Math)|Math|Date|console|bindings)\b/, 'JavaScript is not available to a contract: use the contract SDK.'],
  [/^(wasi_|wasi:)/, 'WASI is not available: compile for bare WebAssembly (`wasm32-unknown-unknown`) and use module `cmesh`.'],
  [/^(the memory|the table)/, 'A contract defines its own memory and table (`--importMemory` and `--importTable` off).'],
  [/^env\.(__cxa_|_Unwind|__cpp_exception)/, 'Exceptions are not available: report a failure as a value, or `revert` (`cmesh.fail`).'],
  [/^cmesh\./, 'The host interface has no such function; `contracts/ABI.md` lists all.'],
]

const OTHERWISE = 'A contract imports from module `cmesh` only; `contracts/ABI.md` lists its functions.'

/** What to do instead of importing this; with `signature` where the host has the name under another one. */
export function importHint(path: string, signature: string | undefined): string {
  if (signature !== undefined) return `Its signature is ${signature}.`
  return HINTS.get(path) ?? FAMILIES.find(([family]) => family.test(path))?.[1] ?? OTHERWISE
}
