/**
 * One instance of a contract's module: its memory, its gas and its stack, and how it is put back between calls. Memory and all mutable
 * globals become what they were after the start. An instance that grew its memory is not put back but replaced, since a
 * memory never shrinks.
 */
import type { ContractCode } from './code-store.ts'
import type { Imports } from './compilation.ts'
import { gaugeOf, type Gauge } from './gauge.ts'
import { MemoryView } from './memory.ts'

type Exports = Readonly<Record<string, unknown>>

export class ContractInstance {
  readonly code: ContractCode
  readonly memory: MemoryView
  /** For the pool: when it was used last, counted in uses. */
  used = 0
  /** Bytes of memory that it is put back to. */
  bytes = 0
  /** What was said last, as text that was checked: whoever says the same again says it with these bytes, which nobody changes. */
  said: Uint8Array = new Uint8Array(0)
  readonly #module: WebAssembly.Module
  readonly #exports: Exports
  readonly #arm: Gauge['arm']
  readonly #take: Gauge['take']
  readonly #gas: Gauge['gas']
  readonly #slots: Gauge['slots']
  readonly #procedures: (() => void)[] = []
  #saved: Saved | undefined

  constructor(code: ContractCode, imports: Imports) {
    const { metered: { gasExport, depthExport }, module } = code
    const { exports } = new WebAssembly.Instance(module, imports)
    this.code = code
    this.#module = module
    this.#exports = exports
    const { memory } = exports
    // Without it nothing could be put back. The checks of a deployment let no such module in.
    if (!(memory instanceof WebAssembly.Memory)) throw new Error('the module does not export its memory')
    this.memory = new MemoryView(memory)
    const gauge = gaugeOf(exports[gasExport] as WebAssembly.Global, exports[depthExport] as WebAssembly.Global)
    this.#arm = gauge.arm
    this.#take = gauge.take
    this.#gas = gauge.gas
    this.#slots = gauge.slots
  }

  /** What the next run may use. */
  arm(gas: number, slots: number): void {
    this.#arm(gas, slots)
  }

  /** Gas left; negative once the code used more than it had. */
  get gas(): number {
    return this.#gas()
  }

  /** Takes gas; false when there was less. */
  take(amount: number): boolean {
    return this.#take(amount) !== 0
  }

  /** Stack slots left; negative once the code used more than it had. */
  get slots(): number {
    return this.#slots()
  }

  /** Runs a function of the ABI by its place there. */
  run(index: number): void {
    const procedure = this.#procedures[index] ??= this.#exports[this.code.functions[index]?.export ?? ''] as () => void
    procedure()
  }

  /** Runs an export without parameters. */
  runExport(name: string): void {
    (this.#exports[name] as () => void)()
  }

  /** Keeps memory and globals as what `reset` goes back to, if they can be kept. */
  save(): void {
    const bytes = this.memory.bytes
    // The start gives every instance of a code the same memory, so that one copy of it does for all, as long as there are any.
    let content = this.code.content?.deref()
    if (content === undefined) {
      content = usedPart(bytes)
      this.code.content = new WeakRef(content)
    }
    const globals = this.code.metered.globals.map((name) => {
      const global = this.#exports[name] as WebAssembly.Global
      return [global, global.value] as const
    })
    // A NaN may change its payload on the way through JavaScript.
    if (globals.some(([, value]) => Number.isNaN(value))) return
    this.#saved = { bytes, content, globals }
    this.bytes = bytes.length
  }

  /** Whether it can be put back: it has grown no memory and its code was not metered anew. */
  get reusable(): boolean {
    // Growing detaches the old buffer, and with it the saved view.
    return this.#saved?.bytes.length === this.memory.bytes.length && this.code.module === this.#module
  }

  /** Makes an instance that is reusable as good as new. */
  reset(): void {
    if (this.#saved === undefined) return
    const { bytes, content, globals } = this.#saved
    bytes.set(content)
    bytes.fill(0, content.length)
    for (const [global, value] of globals) global.value = value
  }
}

interface Saved {
  /** The live memory. */
  readonly bytes: Uint8Array
  /** What it held, up to its last word that is not zero. */
  readonly content: Uint8Array
  readonly globals: readonly (readonly [WebAssembly.Global, number | bigint])[]
}

/** A copy of a memory, up to its last word that is not zero. */
function usedPart(bytes: Uint8Array): Uint8Array {
  const words = new Uint32Array(bytes.buffer)
  let used = words.length
  while (used > 0 && words[used - 1] === 0) used--
  return bytes.slice(0, used * words.BYTES_PER_ELEMENT)
}
