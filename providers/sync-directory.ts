/** Puts the names in a directory on the disk: of a file that was made or renamed there, which without it a power cut may take away again. */
import { open } from 'node:fs/promises'

export async function syncDirectory(dir: string): Promise<void> {
  const directory = await open(dir, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
