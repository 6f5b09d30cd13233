/** WebAssembly modules put together section by section, for tests of what no compiler would write. */

export const u32 = (value: number): number[] => value < 0x80 ? [value] : [(value % 0x80) | 0x80, ...u32(Math.floor(value / 0x80))]

/** `count` first, as the format has it. */
export function vector(items: readonly (readonly number[])[]): number[] {
  return [u32(items.length), ...items].flatMap((item) => [...item])
}

export function name(text: string): number[] {
  const bytes = Buffer.from(text)
  return [...u32(bytes.length), ...bytes]
}

export function section(id: number, content: readonly number[]): number[] {
  return [id, ...u32(content.length), ...content]
}

export function custom(title: string, content: readonly number[]): number[] {
  return section(0, [...name(title), ...content])
}

export const HEADER = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]

export interface RawModule {
  /** Contents of the type section; default: `() -> ()`. */
  readonly types?: readonly (readonly number[])[]
  readonly imports?: readonly (readonly number[])[]
  /** Type of each function; default: the first, for each body. */
  readonly functions?: readonly number[]
  readonly table?: readonly number[]
  /** Default: one memory of one page. */
  readonly memory?: readonly number[]
  readonly globals?: readonly (readonly number[])[]
  readonly exports?: readonly (readonly number[])[]
  readonly start?: number
  readonly elements?: readonly (readonly number[])[]
  readonly dataCount?: number
  /** Of each function, from its locals on, without its size. */
  readonly bodies?: readonly (readonly number[])[]
  readonly data?: readonly (readonly number[])[]
  /** Whole sections, before everything else and behind it. */
  readonly before?: readonly number[]
  readonly behind?: readonly number[]
}

export function rawModule(raw: RawModule = {}): Uint8Array {
  const bodies = raw.bodies ?? []
  const list = (id: number, items: readonly (readonly number[])[] = []): number[] => items.length === 0 ? [] : section(id, vector(items))
  return Uint8Array.from([
    ...HEADER, ...(raw.before ?? []),
    ...list(1, raw.types ?? [[0x60, 0, 0]]),
    ...list(2, raw.imports),
    ...list(3, (raw.functions ?? bodies.map(() => 0)).map(u32)),
    ...(raw.table === undefined ? [] : section(4, raw.table)),
    ...section(5, raw.memory ?? [1, 0, 1]),
    ...list(6, raw.globals),
    ...list(7, raw.exports),
    ...(raw.start === undefined ? [] : section(8, u32(raw.start))),
    ...list(9, raw.elements),
    ...(raw.dataCount === undefined ? [] : section(12, u32(raw.dataCount))),
    ...list(10, bodies.map((body) => [...u32(body.length), ...body])),
    ...list(11, raw.data),
    ...(raw.behind ?? []),
  ])
}

/** A body without locals around instructions. */
export function body(...code: readonly number[]): number[] {
  return [0, ...code, 0x0b]
}
