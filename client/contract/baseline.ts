/**
 * How the engine runs the contract compiler in a process that compiles once. The compiler is WebAssembly of 13 MB; while it works, the
 * engine would translate its hot functions a second time, optimised, which takes twice as long as the whole compilation without it.
 */
import { setFlagsFromString } from 'node:v8'

/** In bytes run, about: more than a compilation of any contract comes to. */
const NEVER = 2_000_000_000

/**
 * Keeps WebAssembly that this process loads from now on as the engine translates it first. For the entry file of a process that is over
 * soon; what runs contracts for long is slower that way.
 */
export function stayOnBaseline(): void {
  setFlagsFromString(`--wasm-tiering-budget=${NEVER}`)
}
