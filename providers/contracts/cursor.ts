/**
 * Reads the primitives of the WebAssembly binary format from a range of bytes: numbers, names, vectors, types, limits,
 * initialisers. It never reads past its range, and every refusal is `CMESH_DEPLOY_MALFORMED` with the offset in the module.
 *
 * Source: WebAssembly Core Specification 2.0, sections 5.2 and 5.3.
 */
import { CMeshError } from '../../cmtp/errors.ts'

/** Of a memory, in pages of 64 KiB, or of a table, in elements. */
export interface LimitsShape {
  readonly initial: number
  readonly maximum: number | undefined
}

export const NUMBER_TYPES: ReadonlyMap<number, string> = new Map([[0x7f, 'i32'], [0x7e, 'i64'], [0x7d, 'f32'], [0x7c, 'f64']])
const OTHER_TYPES = [[0x7b, 'v128'], [0x70, 'funcref'], [0x6f, 'externref']] as const
const VALUE_TYPES: ReadonlyMap<number, string> = new Map([...NUMBER_TYPES, ...OTHER_TYPES])

/** Addition, subtraction and multiplication of i32 and i64. */
const EXTENDED_CONSTANTS: ReadonlySet<number> = new Set([0x6a, 0x6b, 0x6c, 0x7c, 0x7d, 0x7e])

export class Cursor {
  readonly #bytes: Uint8Array
  readonly #end: number
  #at: number

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes
    this.#at = at
    this.#end = end
  }

  get done(): boolean {
    return this.#at >= this.#end
  }

  refuse(reason: string): never {
    throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: `the module cannot be read at byte ${this.#at}: ${reason}` })
  }

  byte(): number {
    if (this.#at >= this.#end) this.refuse('it ends early')
    return this.#bytes[this.#at++] ?? 0
  }

  /** LEB128, at most 5 bytes and 32 bits. */
  u32(): number {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte()
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value <= 0xffffffff ? value : this.refuse('a number has more than 32 bits')
    }
    return this.refuse('a number has more than 32 bits')
  }

  /** A LEB128 number of any size, unread. */
  skipNumber(): void {
    while (this.byte() >= 0x80);
  }

  /** The next `length` bytes as a cursor of their own. */
  take(length: number): Cursor {
    if (length > this.#end - this.#at) this.refuse('it ends early')
    const part = new Cursor(this.#bytes, this.#at, this.#at + length)
    this.#at += length
    return part
  }

  rest(): Uint8Array {
    return this.#bytes.slice(this.#at, this.#end)
  }

  name(): string {
    return new TextDecoder().decode(this.take(this.u32()).rest())
  }

  /** An element takes at least a byte, so that a huge count ends at the section's end. */
  vector(element: () => unknown): void {
    for (let left = this.u32(); left > 0; left--) element()
  }

  valueType(): number {
    const type = this.byte()
    return VALUE_TYPES.has(type) ? type : this.refuse('a type is not part of core WebAssembly')
  }

  functionType(): string {
    if (this.byte() !== 0x60) this.refuse('a type is not part of core WebAssembly')
    const [parameters, results]: [string[], string[]] = [[], []]
    for (const list of [parameters, results]) this.vector(() => list.push(VALUE_TYPES.get(this.valueType()) ?? ''))
    return `(${parameters.join(', ')}) -> (${results.join(', ')})`
  }

  limits(): LimitsShape {
    const flags = this.byte()
    if (flags > 1) this.refuse('a memory or table is shared or has 64-bit addresses')
    return { initial: this.u32(), maximum: flags === 1 ? this.u32() : undefined }
  }

  table(): void {
    this.valueType()
    this.limits()
  }

  /** The description of an import that is no function; it is refused elsewhere, by name. */
  importedThing(kind: number): void {
    if (kind === 1) this.table()
    else if (kind === 2) this.limits()
    else if (kind === 3) { this.valueType(); this.byte() }
    else this.refuse('an import is of no known kind')
  }

  /** A constant expression: steps over it. */
  initialiser(): void {
    for (;;) {
      const opcode = this.byte()
      if (opcode === 0x0b) return
      if (opcode === 0x41 || opcode === 0x42) this.skipNumber()
      else if (opcode === 0x43) this.take(4)
      else if (opcode === 0x44) this.take(8)
      else if (opcode === 0x23 || opcode === 0xd2) this.u32()
      else if (opcode === 0xd0) this.valueType()
      else if (!EXTENDED_CONSTANTS.has(opcode)) this.refuse('an initialiser is not part of core WebAssembly')
    }
  }
}
