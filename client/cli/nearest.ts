/** What somebody who mistyped a word may have meant. */

/** The word that is one slip away, a letter too many, too few, another one or two swapped, or written in capitals; a known word itself is none. */
export function nearest(typed: string, words: readonly string[]): string | undefined {
  const low = typed.toLowerCase()
  return words.find((word) => word !== typed && (word === low || isOneSlip(low, word)))
}

function isOneSlip(a: string, b: string): boolean {
  let same = 0
  while (same < a.length && a[same] === b[same]) same++
  const [restA, restB] = [a.slice(same), b.slice(same)]
  return restA.slice(1) === restB || restA === restB.slice(1) || restA.slice(1) === restB.slice(1)
    || (restA.length > 1 && restA[1] === restB[0] && restA[0] === restB[1] && restA.slice(2) === restB.slice(2))
}
