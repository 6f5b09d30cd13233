/** What Hypercore, RocksDB and the file system throw, as coded errors. */
import { isNativeError } from 'node:util/types'
import { CMeshError } from '../../cmtp/errors.ts'

const UNWRITABLE = /no space|quota|read-only|permission denied|not permitted|too many open files|file too large/i
const UNWRITABLE_CODES: ReadonlySet<string> = new Set([
  'ENOSPC', 'EDQUOT', 'EROFS', 'EACCES', 'EPERM', 'EMFILE', 'ENFILE', 'EFBIG', 'ENOTDIR', 'EEXIST',
])
const LOCKED = /\/LOCK: /
const LONGEST_REASON = 300

/** A failure to write: `CMESH_STATE_FULL`. */
export function writeError(thrown: unknown): CMeshError {
  return new CMeshError('CMESH_STATE_FULL', { reason: reasonOf(thrown) }, { cause: thrown })
}

/** A failure to open or read: `CMESH_BOOT_DATA_IN_USE`, `CMESH_STATE_FULL` or else `CMESH_STATE_CORRUPT` at `block`. */
export function readError(thrown: unknown, path: string, block: number): CMeshError {
  if (thrown instanceof CMeshError) return thrown
  const reason = reasonOf(thrown)
  if (LOCKED.test(reason)) return new CMeshError('CMESH_BOOT_DATA_IN_USE', { path, pid: 'unknown' }, { cause: thrown })
  const { code = '' } = thrown as NodeJS.ErrnoException
  if (UNWRITABLE_CODES.has(code) || UNWRITABLE.test(reason)) return writeError(thrown)
  return new CMeshError('CMESH_STATE_CORRUPT', { path, block, reason }, { cause: thrown })
}

/** The innermost cause: RocksDB's own words stand there. */
function reasonOf(thrown: unknown): string {
  let inner = thrown
  while (isNativeError(inner) && inner.cause !== undefined) inner = inner.cause
  const text = isNativeError(inner) ? inner.message : String(inner)
  return text.slice(0, LONGEST_REASON).replace(/[.\s]+$/, '')
}
