/** Salts that can be told beforehand: the first is of bytes of `first`, each one of the next number. */
export function saltsOf(first = 0): { put(target: Uint8Array, at: number): void } {
  let next = first
  return { put: (target, at) => { target.fill(next++, at, at + 16) } }
}
