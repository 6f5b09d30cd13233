/** Waits for what may take too long: resolves when `work` does, at the latest after `ms`, and rejects as it does until then. */
export async function within(work: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>(resolve => { timer = setTimeout(resolve, ms) })
  try {
    await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
