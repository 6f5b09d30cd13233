/** The part of `fs-native-extensions` that the lock of a data directory uses; the package ships no types. */
declare module 'fs-native-extensions' {
  /** Locks the file that is open for this opening of it alone; false where another has it. Closing it, or the end of the process, unlocks it. */
  export function tryLock(fd: number): boolean
}
