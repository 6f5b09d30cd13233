/**
 * Where two modules differ: section by section, in the code function by function, and the first byte. Exported functions are told
 * by their names, others by their number, where both modules have as many: one more or less moves all that follow. It reads the
 * outer shape of WebAssembly alone; a module that is not whole is compared as far as it goes.
 */

export interface PartDifference {
  /** `section code`, `function call_transfer`, `function 12`. */
  readonly part: string
  /** Bytes of the part in each; null where one lacks it. */
  readonly left: number | null
  readonly right: number | null
}

export interface ModuleDifference {
  /** Sections that differ, then functions. */
  readonly parts: readonly PartDifference[]
  /** How many functions each has. */
  readonly functions: readonly [left: number, right: number]
  /** Offset of the first byte that differs, and the part it is in on the left. */
  readonly offset: number
  readonly at: string
}

interface Part {
  readonly name: string
  /** Where its content is. */
  readonly from: number
  readonly to: number
  /** Where it begins, its head included. */
  readonly start: number
}

interface Parts {
  readonly sections: readonly Part[]
  readonly functions: readonly (Part & { readonly exported: boolean })[]
}

const HEADER_BYTES = 8
const CODE = 10
const EXPORT = 7
const IMPORT = 2
/** WebAssembly 1.0, 5.5.2. */
const SECTIONS = ['custom', 'type', 'import', 'function', 'table', 'memory', 'global', 'export', 'start', 'element', 'code', 'data', 'data count']

/** `undefined` when they are the same. */
export function moduleDifference(left: Uint8Array, right: Uint8Array): ModuleDifference | undefined {
  const length = Math.min(left.length, right.length)
  let offset = 0
  while (offset < length && left[offset] === right[offset]) offset++
  if (offset === left.length && offset === right.length) return undefined
  const [ours, theirs] = [partsOf(left), partsOf(right)]
  const numbered = ours.functions.length === theirs.functions.length
  const compared = ({ sections, functions }: Parts): Part[] => [...sections, ...functions.filter(({ exported }) => exported || numbered)]
  const [a, b] = [byName(compared(ours)), byName(compared(theirs))]
  const parts = [...new Set([...a.keys(), ...b.keys()])].flatMap((name): PartDifference[] => {
    const [mine, other] = [a.get(name), b.get(name)]
    if (mine !== undefined && other !== undefined && Buffer.compare(left.subarray(mine.from, mine.to), right.subarray(other.from, other.to)) === 0) return []
    return [{ part: name, left: mine === undefined ? null : mine.to - mine.from, right: other === undefined ? null : other.to - other.from }]
  })
  const holding = [...ours.sections, ...ours.functions].findLast(({ start, to }) => start <= offset && offset < to)
  return { parts, functions: [ours.functions.length, theirs.functions.length], offset, at: holding?.name ?? (offset < HEADER_BYTES ? 'the header' : 'the end') }
}

function byName(parts: readonly Part[]): Map<string, Part> {
  return new Map(parts.map((part) => [part.name, part]))
}

function partsOf(module: Uint8Array): Parts {
  const sections: (Part & { readonly id: number })[] = []
  const reader = new Reader(module, HEADER_BYTES, module.length)
  while (!reader.done) {
    const start = reader.at
    const id = reader.byte()
    const size = reader.number()
    const from = reader.at
    const name = id === 0 ? `section ${new Reader(module, from, from + size).text()}` : `section ${SECTIONS[id] ?? id}`
    reader.skip(size)
    sections.push({ id, name, from, to: reader.at, start })
  }
  return { sections, functions: functionsOf(module, (id) => sections.find((section) => section.id === id)) }
}

function functionsOf(module: Uint8Array, section: (id: number) => Part | undefined): Parts['functions'] {
  const code = section(CODE)
  if (code === undefined) return []
  const imported = countImports(module, section(IMPORT))
  const names = exportedFunctions(module, section(EXPORT))
  const reader = new Reader(module, code.from, code.to)
  return Array.from({ length: Math.min(reader.number(), code.to - code.from) }, (_, i) => {
    const start = reader.at
    const size = reader.number()
    const from = reader.at
    reader.skip(size)
    const name = names.get(imported + i)
    return { name: `function ${name ?? imported + i}`, exported: name !== undefined, from, to: reader.at, start }
  })
}

/** Functions alone: a contract imports nothing else. */
function countImports(module: Uint8Array, section: Part | undefined): number {
  return section === undefined ? 0 : new Reader(module, section.from, section.to).number()
}

function exportedFunctions(module: Uint8Array, section: Part | undefined): Map<number, string> {
  const names = new Map<number, string>()
  if (section === undefined) return names
  const reader = new Reader(module, section.from, section.to)
  for (let left = reader.number(); left > 0 && !reader.done; left--) {
    const name = reader.text()
    const kind = reader.byte()
    const index = reader.number()
    if (kind === 0) names.set(index, name)
  }
  return names
}

/** Total: past the end there are zeros. */
class Reader {
  at: number
  readonly #bytes: Uint8Array
  readonly #end: number

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes
    this.at = at
    this.#end = Math.min(end, bytes.length)
  }

  get done(): boolean {
    return this.at >= this.#end
  }

  byte(): number {
    return this.done ? 0 : this.#bytes[this.at++] as number
  }

  /** Unsigned LEB128 of at most 5 bytes. */
  number(): number {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte()
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) break
    }
    return value
  }

  text(): string {
    const length = this.number()
    const from = this.at
    this.skip(length)
    return Buffer.from(this.#bytes.subarray(from, this.at)).toString('utf8')
  }

  skip(bytes: number): void {
    this.at = Math.min(this.at + bytes, this.#end)
  }
}
