/**
 * The part of the WebAssembly JavaScript interface that the engine uses. TypeScript declares it in its browser library only,
 * whose other globals a node does not have.
 */
declare namespace WebAssembly {
  class Module {
    constructor(bytes: Uint8Array)
  }
  class Instance {
    constructor(module: Module, imports?: Readonly<Record<string, Readonly<Record<string, ((...values: never[]) => unknown) | Global>>>>)
    readonly exports: Readonly<Record<string, unknown>>
  }
  class Memory {
    constructor(descriptor: { initial: number, maximum?: number })
    readonly buffer: ArrayBuffer
  }
  class Global {
    value: number | bigint
  }
  class RuntimeError extends Error {}
  function validate(bytes: Uint8Array): boolean
}
