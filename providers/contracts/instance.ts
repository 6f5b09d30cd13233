/**
 * One instance of a contract's module, and how it is put back between calls: memory as it was after `_start`, mutable globals
 * likewise. An instance that grew its memory is not put back but replaced, since a memory never shrinks.
 */

import { MemoryView } from './memory.ts'

type Exports = Readonly<Record<string, unknown>>

export class ContractInstance {
  readonly memory: MemoryView
  readonly #exports: Exports
  readonly #saved: Saved | undefined

  /**
   * `exports`: of an instance whose `_start` has run. `mutableGlobals`: the names of all its mutable globals; undefined when
   * they cannot be named, and the instance cannot be put back.
   */
  constructor(exports: Exports, memory: WebAssembly.Memory, mutableGlobals: readonly string[] | undefined) {
    this.#exports = exports
    this.memory = new MemoryView(memory)
    this.#saved = mutableGlobals === undefined ? undefined : save(exports, memory, mutableGlobals)
  }

  procedure(name: string): () => void {
    return this.#exports[name] as () => void
  }

  /** Makes the instance as good as new; false when it cannot be. */
  reset(): boolean {
    const saved = this.#saved
    // Growing detaches the old buffer, and with it the saved view.
    if (saved === undefined || saved.bytes.length !== this.memory.bytes.length) return false
    saved.bytes.set(saved.content)
    saved.bytes.fill(0, saved.content.length)
    for (const [global, value] of saved.globals) global.value = value
    return true
  }
}

interface Saved {
  /** The live memory. */
  readonly bytes: Uint8Array
  /** What it held, up to its last word that is not zero. */
  readonly content: Uint8Array
  readonly globals: readonly (readonly [WebAssembly.Global, number | bigint])[]
}

/** A NaN is not safe to keep: its payload may change on the way through JavaScript. */
function save(exports: Exports, memory: WebAssembly.Memory, mutableGlobals: readonly string[]): Saved | undefined {
  const globals = mutableGlobals.map((name) => {
    const global = exports[name] as WebAssembly.Global
    return [global, global.value] as const
  })
  if (globals.some(([, value]) => Number.isNaN(value))) return undefined
  const words = new Uint32Array(memory.buffer)
  let used = words.length
  while (used > 0 && words[used - 1] === 0) used--
  const bytes = new Uint8Array(memory.buffer)
  return { bytes, content: bytes.slice(0, used * words.BYTES_PER_ELEMENT), globals }
}
