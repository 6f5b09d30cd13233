/** What the file system threw. Told by its properties: an error that crossed a realm is no instance of this realm's `Error`. */

/** The path, or a directory on it, does not exist. */
export function isMissing(thrown: unknown): boolean {
  if (typeof thrown !== 'object' || thrown === null || !('code' in thrown)) return false
  return thrown.code === 'ENOENT' || thrown.code === 'ENOTDIR'
}

export function reasonOf(thrown: unknown): string {
  return typeof thrown === 'object' && thrown !== null && 'message' in thrown ? String(thrown.message) : String(thrown)
}
