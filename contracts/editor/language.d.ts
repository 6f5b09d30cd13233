/**
 * What the compiler of contracts knows and TypeScript does not, for editors alone: its decorators, and the method it writes for
 * classes that are an `@event`.
 */
declare function view(...decorated: unknown[]): void
declare function init(...decorated: unknown[]): void
declare function migrate(...decorated: unknown[]): void
declare function reply(...decorated: unknown[]): void
declare function event(...decorated: unknown[]): any
declare function record(...decorated: unknown[]): any

interface Object {
  /** Of an `@event`: tells the world. */
  emit(): void
}
