/** Waits for a named condition; fails with its name. The limit is for a hung test, not a measurement. */
import { setTimeout as delay } from 'node:timers/promises'

export async function until(what: string, holds: () => boolean | Promise<boolean>, withinMs = 20_000): Promise<void> {
  const end = performance.now() + withinMs
  while (!await holds()) {
    if (performance.now() > end) throw new Error(`did not happen: ${what}`)
    await delay(5)
  }
}
