/**
 * One instance of a contract's module: its memory, its gas and its stack, and how it is put back between calls. Memory and all mutable
 * globals become what they were after the start. An instance that grew its memory is not put back but replaced, since a
 * memory never shrinks.
 *
 * Of the memory no more is put back than what may have been written to: by the code, which marks where it stores (`meter/stores.ts`), and
 * by the host, which writes through `write` alone. A run that did not return leaves no marks: then it is all of it.
 */
import type { ContractCode } from './code-store.ts'
import type { Imports } from './compilation.ts'
import { gaugeOf, type Gauge } from './gauge.ts'
import { MemoryView } from './memory.ts'
import type { Reach } from './meter/index.ts'
import { puttingBack, type KeptGlobal } from './own-globals.ts'

type Exports = Readonly<Record<string, unknown>>

export class ContractInstance {
  readonly code: ContractCode
  readonly memory: MemoryView
  /** For the pool: whether it has it, and when it was used last, counted in uses. */
  pooled = false
  used = 0
  /** Bytes of memory that it is put back to. */
  bytes = 0
  /** What was said last that is short, as text that was checked: whoever says the same again says it with these bytes, which nobody changes. */
  said: Uint8Array = new Uint8Array(0)
  readonly #module: WebAssembly.Module
  readonly #exports: Exports
  readonly #arm: Gauge['arm']
  readonly #take: Gauge['take']
  readonly #takeMuch: Gauge['takeMuch']
  readonly #gas: Gauge['gas']
  readonly #slots: Gauge['slots']
  readonly #reach: Gauge['reach']
  readonly #stores: Reach
  readonly #procedures: (() => void)[] = []
  #saved: Saved | undefined
  /** Whether the run since `arm` returned. */
  #returned = false
  /** End of what the host wrote since then. */
  #written = 0

  constructor(code: ContractCode, imports: Imports) {
    const { metered: { gasExport, depthExport, reachExport, reach: stores }, module } = code
    const { exports } = new WebAssembly.Instance(module, imports)
    this.code = code
    this.#module = module
    this.#stores = stores
    this.#exports = exports
    const { memory } = exports
    // Without it nothing could be put back. The checks of a deployment let no such module in.
    if (!(memory instanceof WebAssembly.Memory)) throw new Error('the module does not export its memory')
    this.memory = new MemoryView(memory)
    const [gas, slots, reach] = [gasExport, depthExport, reachExport].map(name => exports[name]) as [WebAssembly.Global, WebAssembly.Global, WebAssembly.Global]
    const gauge = gaugeOf(gas, slots, reach)
    this.#arm = gauge.arm
    this.#take = gauge.take
    this.#takeMuch = gauge.takeMuch
    this.#gas = gauge.gas
    this.#slots = gauge.slots
    this.#reach = gauge.reach
  }

  /** What the next run may use. */
  arm(gas: number, slots: number): void {
    this.#arm(gas, slots)
    this.#returned = false
    this.#written = 0
  }

  /** Gas left; negative once the code used more than it had. */
  get gas(): number {
    return this.#gas()
  }

  /** Takes gas; false when there was less. */
  take(amount: number): boolean {
    return (amount <= MOST_TAKEN ? this.#take(amount) : this.#takeMuch(amount)) !== 0
  }

  /** Stack slots left; negative once the code used more than it had. */
  get slots(): number {
    return this.#slots()
  }

  /** Writes to the memory: the host's only way to. The range lies within it. */
  write(at: number, bytes: Uint8Array): void {
    this.memory.bytes.set(bytes, at)
    const end = at + bytes.length
    if (end > this.#written) this.#written = end
  }

  /** Runs a function of the ABI by its place there. */
  run(index: number): void {
    const procedure = this.#procedures[index] ??= this.#exports[this.code.functions[index]?.export ?? ''] as () => void
    procedure()
    this.#returned = true
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
    const globals = this.code.metered.globals.map((name): KeptGlobal => {
      const global = this.#exports[name] as WebAssembly.Global
      return [global, global.value]
    })
    // A NaN may change its payload on the way through JavaScript.
    if (globals.some(([, value]) => Number.isNaN(value))) return
    this.#saved = { bytes, content, globals, part: content, putBack: undefined }
    this.bytes = bytes.length
  }

  /** Whether it can be put back: it has grown no memory and its code was not metered anew. */
  get reusable(): boolean {
    // Growing detaches the old buffer, and with it the saved view.
    return this.#saved?.bytes.length === this.memory.bytes.length && this.code.module === this.#module
  }

  /** Makes an instance that is reusable as good as new. */
  reset(): void {
    const saved = this.#saved
    if (saved === undefined) return
    const { bytes, content } = saved
    const end = Math.min(this.#changedEnd(), bytes.length)
    const length = Math.min(end, content.length)
    // Most calls write as far as the one before.
    if (saved.part.length !== length) saved.part = content.subarray(0, length)
    bytes.set(saved.part)
    if (end > content.length) bytes.fill(0, content.length, end)
    const { ownGlobals } = this.code
    if (ownGlobals === undefined) return
    saved.putBack ??= puttingBack(ownGlobals, saved.globals)
    saved.putBack()
  }

  /** Where at the latest the bytes end that may have changed since `arm`. */
  #changedEnd(): number {
    if (!this.#returned) return Infinity
    const { fixed, beyond } = this.#stores
    const reach = this.#reach()
    // No address has a bit above the highest that is marked.
    const highest = reach === 0 ? 0 : 0xffff_ffff >>> Math.clz32(reach)
    return Math.max(fixed, highest + beyond, this.#written)
  }
}

interface Saved {
  /** The live memory. */
  readonly bytes: Uint8Array
  /** What it held, up to its last word that is not zero, and some of the zeros behind it. */
  readonly content: Uint8Array
  readonly globals: readonly KeptGlobal[]
  /** As much of `content` as was put back last. */
  part: Uint8Array
  putBack: (() => void) | undefined
}

/** Zeros that are kept behind what is used of a memory: what a call writes there, which is little as a rule, is then put back in one go. */
const ZEROS = 16_384

/** A copy of a memory, up to its last word that is not zero and `ZEROS` beyond. */
function usedPart(bytes: Uint8Array): Uint8Array {
  const words = new Uint32Array(bytes.buffer)
  let used = words.length
  while (used > 0 && words[used - 1] === 0) used--
  return bytes.slice(0, used * words.BYTES_PER_ELEMENT + ZEROS)
}

/** What crosses as a whole number of 32 bits. */
const MOST_TAKEN = 0x7fff_ffff
