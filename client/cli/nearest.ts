/** What somebody who mistyped a word may have meant. */

/** The word that is one slip away, a letter too many, too few, another one or two swapped, or written in capitals; a known word itself is none. */
export function nearest(typed: string, words: readonly string[]): string | undefined {
  const low = typed.toLowerCase()
  return words.find((word) => word !== typed && (word === low || isOneSlip(low, word)))
}

function isOneSlip(a: string, b: string): boolean {
  let same = 0
  while (same < a.length && a[same] === b[same]) same++
  const [x, y] = [a.slice(same), b.slice(same)]
  const swapped = x.length > 1 && `${x.charAt(1)}${x.charAt(0)}${x.slice(2)}` === y
  return x.slice(1) === y || x === y.slice(1) || x.slice(1) === y.slice(1) || swapped
}
