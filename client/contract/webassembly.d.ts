/** The part of the WebAssembly JavaScript interface that the compiler's checks use, beside what the engine declares. */
declare namespace WebAssembly {
  namespace Module {
    function imports(module: Module): readonly { readonly module: string, readonly name: string }[]
  }
}
