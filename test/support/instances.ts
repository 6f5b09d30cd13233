/** Counts WebAssembly instances that have a memory, as those of contracts do: the only sign by which a pool shows from outside. */
export function instancesMade(run: () => void): number {
  let made = 0
  const Original = WebAssembly.Instance
  WebAssembly.Instance = class extends Original {
    constructor(...args: ConstructorParameters<typeof Original>) {
      super(...args)
      if (this.exports['memory'] !== undefined) made++
    }
  }
  try {
    run()
  } finally {
    WebAssembly.Instance = Original
  }
  return made
}
