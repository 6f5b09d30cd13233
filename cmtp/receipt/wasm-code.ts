/**
 * The few instructions of WebAssembly that `sha256-code.ts` is written in, as bytes: on vectors of four words, on addresses, and the frame of a
 * module. Says nothing of what they compute.
 *
 * Source of opcodes and layout: WebAssembly Core Specification 2.0, section 5.
 */

export type Code = readonly number[]

export const ADD = vector(0xae)
export const AND = vector(0x4e)
export const OR = vector(0x50)
export const XOR = vector(0x51)
/** Of the first where the third has ones, of the second elsewhere. */
export const SELECT = vector(0x52)
export const SHIFT_LEFT = vector(0xab)
export const SHIFT_RIGHT = vector(0xad)
export const ZERO = i32(0)

export function leb(value: number): Code {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)]
}

export function signed(value: number): Code {
  return value >= -64 && value < 64 ? [value & 0x7f] : [(value & 0x7f) | 0x80, ...signed(value >> 7)]
}

export function vector(opcode: number): Code {
  return [0xfd, ...leb(opcode)]
}

export function i32(value: number): Code {
  return [0x41, ...signed(value)]
}

export function get(local: number): Code {
  return [0x20, local]
}

export function set(local: number): Code {
  return [0x21, local]
}

export function tee(local: number): Code {
  return [0x22, local]
}

/** Four times the same word. */
export function words(word: number): Code {
  const bytes = [word, word >>> 8, word >>> 16, word >>> 24].map(byte => byte & 0xff)
  return [...vector(0x0c), ...bytes, ...bytes, ...bytes, ...bytes]
}

/** Of the address on the stack. */
export function load(offset: number): Code {
  return [...vector(0x00), 4, ...leb(offset)]
}

/** The word at the address on the stack, four times. */
export function loadSame(offset: number): Code {
  return [...vector(0x09), 2, ...leb(offset)]
}

export function store(offset: number): Code {
  return [...vector(0x0b), 4, ...leb(offset)]
}

export function call(index: number): Code {
  return [0x10, ...leb(index)]
}

/** The one global, an address. */
export const global = { get: [0x23, 0] as Code, set: [0x24, 0] as Code }

/** Other byte order, in each word. */
export function swapped(local: number): Code {
  return [...tee(local), ...get(local), ...vector(0x0d), 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12]
}

export function section(id: number, ...items: readonly Code[]): Code {
  const content = [...leb(items.length), ...items.flat()]
  return [id, ...leb(content.length), ...content]
}

export function body(locals: Code, code: Code): Code {
  return [...leb(locals.length + code.length + 1), ...locals, ...code, 0x0b]
}

/** A global that holds an address. */
export const mutable: Code = [0x7f, 1, 0x41, 0, 0x0b]

export function exported(name: string, kind: number, index: number): Code {
  return [name.length, ...Buffer.from(name), kind, index]
}
