/**
 * What a group gives, until enough has come. How many events come at once is the broker's business: it counts what waits for a group a moment after
 * an event was stored, and whoever takes asks for no more than it counts.
 */

/** At least `count`, and all that came with the last of them. `take` is told how many are missing. */
export async function gather<T>(count: number, take: (missing: number) => Promise<readonly T[]>): Promise<T[]> {
  const taken: T[] = []
  while (taken.length < count) {
    const more = await take(count - taken.length)
    if (more.length === 0) throw new Error(`${taken.length} of ${count} came, and then none for as long as a take waits`)
    taken.push(...more)
  }
  return taken
}
