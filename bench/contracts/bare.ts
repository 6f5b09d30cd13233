/**
 * A contract's module without the engine: a new instance whose host functions do no more than hand the argument in and keep the result.
 * What is left of a call's time is that of the module itself, metered or not.
 */

/** More than any program uses. */
export const PLENTY = 1n << 60n

interface Metered {
  readonly __cm_gas?: WebAssembly.Global
  readonly __cm_depth?: WebAssembly.Global
}

export class Bare {
  readonly #exports: Readonly<Record<string, unknown>>
  readonly #gas: WebAssembly.Global | undefined
  #input = new Uint8Array(0)
  #output = ''

  constructor(module: WebAssembly.Module) {
    const memory = (): Uint8Array => new Uint8Array((this.#exports['memory'] as WebAssembly.Memory).buffer)
    const functions: Readonly<Record<string, (...args: number[]) => unknown>> = {
      input: () => this.#input.length,
      reglen: () => this.#input.length,
      reg: (pointer = 0) => { memory().set(this.#input, pointer) },
      output: (pointer = 0, length = 0) => { this.#output = Buffer.from(memory().buffer, pointer, length).toString() },
      fail: (pointer = 0, length = 0) => { throw new Error(Buffer.from(memory().buffer, pointer, length).toString()) },
      get: () => -1,
    }
    const named = WebAssembly.Module.imports(module).map(({ name }) => [name, functions[name] ?? (() => 0)] as const)
    this.#exports = new WebAssembly.Instance(module, { cmesh: Object.fromEntries(named) }).exports
    const { __cm_gas: gas, __cm_depth: depth } = this.#exports as Metered
    this.#gas = gas
    if (gas !== undefined) gas.value = PLENTY
    if (depth !== undefined) depth.value = 40_000
    ;(this.#exports['_start'] as (() => void) | undefined)?.()
  }

  /** Calls a function of the ABI with one number and gives its result. */
  run(name: string, size: number): string {
    this.#input = Buffer.from(`[${size}]`)
    ;(this.#exports[`call_${name}`] as () => void)()
    return this.#output
  }

  /** Calls an export as it is. */
  procedure(name: string): () => void {
    return this.#exports[name] as () => void
  }

  /** Gas used since it was made. */
  get gasUsed(): number {
    return Number(PLENTY - (this.#gas?.value as bigint | undefined ?? PLENTY))
  }
}
