/**
 * Programs that contracts compute with: calls, loops, memory, integers, floats, texts, collections. Compiled by the contract kit as any
 * contract is. Each takes a size and gives a checksum, and uses the host for nothing but its argument and its result.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { compileContract } from '../../client/contract/compile.ts'

/** Each program with the size at which one run takes some milliseconds. */
export const PROGRAMS = {
  fib: 28, sieve: 100_000, matmul: 96, nbody: 250_000, mandelbrot: 200, sort: 40_000, sha256: 200_000, crc32: 1_500_000, collatz: 50_000,
  words: 20_000, base64: 400_000, life: 60,
} as const

export type ProgramName = keyof typeof PROGRAMS

const SOURCE = `
function f(n: i32): i32 { return n < 2 ? n : f(n - 1) + f(n - 2) }
export function fib(n: i32): u64 { return <u64>f(n) }

export function sieve(n: i32): u64 {
  const marks = new Uint8Array(n)
  let count: u64 = 0
  for (let i = 2; i < n; i++) {
    if (marks[i] != 0) continue
    count++
    for (let j = i * 2; j < n; j += i) marks[j] = 1
  }
  return count
}

export function matmul(n: i32): u64 {
  const a = new StaticArray<f64>(n * n), b = new StaticArray<f64>(n * n), c = new StaticArray<f64>(n * n)
  for (let i = 0; i < n * n; i++) { a[i] = f64(i % 7) + 0.5; b[i] = f64(i % 11) - 3.25 }
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) {
    let sum = 0.0
    for (let k = 0; k < n; k++) sum += a[i * n + k] * b[k * n + j]
    c[i * n + j] = sum
  }
  return reinterpret<u64>(c[n * n - 1])
}

export function nbody(n: i32): u64 {
  let x = 1.0, y = 0.0, vx = 0.0, vy = 1.0, x2 = -1.0, y2 = 0.1, vx2 = 0.1, vy2 = -0.9
  for (let i = 0; i < n; i++) {
    const dx = x - x2, dy = y - y2
    const d = dx * dx + dy * dy + 0.01
    const k = 0.001 / (d * Math.sqrt(d))
    vx -= dx * k; vy -= dy * k; vx2 += dx * k; vy2 += dy * k
    x += vx * 0.001; y += vy * 0.001; x2 += vx2 * 0.001; y2 += vy2 * 0.001
  }
  return reinterpret<u64>(x + y + x2 + y2)
}

export function mandelbrot(n: i32): u64 {
  let inside: u64 = 0
  for (let py = 0; py < n; py++) for (let px = 0; px < n; px++) {
    const cx = f64(px) * 3.0 / f64(n) - 2.0, cy = f64(py) * 2.0 / f64(n) - 1.0
    let x = 0.0, y = 0.0, i = 0
    while (i < 100 && x * x + y * y < 4.0) { const t = x * x - y * y + cx; y = 2.0 * x * y + cy; x = t; i++ }
    if (i == 100) inside++
  }
  return inside
}

function quick(a: StaticArray<i32>, from: i32, to: i32): void {
  if (from >= to) return
  const pivot = a[(from + to) >> 1]
  let i = from, j = to
  while (i <= j) {
    while (a[i] < pivot) i++
    while (a[j] > pivot) j--
    if (i <= j) { const t = a[i]; a[i] = a[j]; a[j] = t; i++; j-- }
  }
  quick(a, from, j)
  quick(a, i, to)
}
export function sort(n: i32): u64 {
  const a = new StaticArray<i32>(n)
  let x: u32 = 12345
  for (let i = 0; i < n; i++) { x = x * 1664525 + 1013904223; a[i] = <i32>(x >> 1) }
  quick(a, 0, n - 1)
  return <u64>a[n >> 1]
}

const K: StaticArray<u32> = [
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174]
export function sha256(n: i32): u64 {
  const w = new StaticArray<u32>(64)
  let a: u32 = 1, b: u32 = 2, c: u32 = 3, d: u32 = 4, e: u32 = 5, f: u32 = 6, g: u32 = 7, h: u32 = 8
  for (let block = 0; block < n / 64; block++) {
    for (let i = 0; i < 16; i++) w[i] = K[i] + <u32>block * 31 + a
    for (let i = 16; i < 64; i++) {
      const s0 = rotr<u32>(w[i - 15], 7) ^ rotr<u32>(w[i - 15], 18) ^ (w[i - 15] >> 3)
      const s1 = rotr<u32>(w[i - 2], 17) ^ rotr<u32>(w[i - 2], 19) ^ (w[i - 2] >> 10)
      w[i] = w[i - 16] + s0 + w[i - 7] + s1
    }
    for (let i = 0; i < 64; i++) {
      const t1 = h + (rotr<u32>(e, 6) ^ rotr<u32>(e, 11) ^ rotr<u32>(e, 25)) + ((e & f) ^ (~e & g)) + K[i & 15] + w[i]
      const t2 = (rotr<u32>(a, 2) ^ rotr<u32>(a, 13) ^ rotr<u32>(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))
      h = g; g = f; f = e; e = d + t1; d = c; c = b; b = a; a = t1 + t2
    }
  }
  return <u64>a << 32 | <u64>e
}

export function crc32(n: i32): u64 {
  const table = new StaticArray<u32>(256)
  for (let i: u32 = 0; i < 256; i++) { let c = i; for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >> 1) : c >> 1; table[i] = c }
  let crc: u32 = 0xffffffff
  for (let i = 0; i < n; i++) crc = table[(crc ^ <u32>i) & 0xff] ^ (crc >> 8)
  return <u64>crc
}

export function collatz(n: i32): u64 {
  let longest: u64 = 0
  for (let start: u64 = 1; start < <u64>n; start++) {
    let x = start, steps: u64 = 0
    while (x != 1) { x = x % 2 == 0 ? x / 2 : x * 3 + 1; steps++ }
    if (steps > longest) longest = steps
  }
  return longest
}

export function words(n: i32): u64 {
  const counts = new Map<string, i32>()
  let x: u32 = 7
  for (let i = 0; i < n; i++) {
    x = x * 1664525 + 1013904223
    const word = 'w' + (x >> 25).toString()
    counts.set(word, counts.has(word) ? counts.get(word) + 1 : 1)
  }
  return <u64>counts.size
}

export function base64(n: i32): u64 {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
  const out = new Uint8Array(n / 3 * 4 + 4)
  let at = 0
  for (let i = 0; i + 2 < n; i += 3) {
    const bits = (i & 255) << 16 | ((i * 7) & 255) << 8 | ((i * 13) & 255)
    for (let shift = 18; shift >= 0; shift -= 6) out[at++] = <u8>alphabet.charCodeAt(bits >> shift & 63)
  }
  let sum: u64 = 0
  for (let i = 0; i < at; i++) sum = sum * 31 + out[i]
  return sum
}

export function life(n: i32): u64 {
  const width = 64
  let now = new Uint8Array(width * width), next = new Uint8Array(width * width)
  for (let i = 0; i < width * width; i++) now[i] = <u8>((i * 2654435761 >> 13) & 1)
  for (let round = 0; round < n; round++) {
    for (let y = 1; y < width - 1; y++) for (let x = 1; x < width - 1; x++) {
      const at = y * width + x
      const near = now[at - 1] + now[at + 1] + now[at - width] + now[at + width] + now[at - width - 1] + now[at - width + 1] + now[at + width - 1] + now[at + width + 1]
      next[at] = near == 3 || (near == 2 && now[at] == 1) ? 1 : 0
    }
    const t = now; now = next; next = t
  }
  let alive: u64 = 0
  for (let i = 0; i < width * width; i++) alive += now[i]
  return alive
}

/** As the EVM computes it: one multiplication and one addition a round. */
export function compute(n: i32): u64 {
  let x: u64 = 1
  for (let i = n; i != 0; i--) x = x * 6364136223846793005 + 1442695040888963407
  return x
}
`

export async function compilePrograms(): Promise<Uint8Array> {
  return compileText('programs', SOURCE)
}

/** A contract from its text. */
export async function compileText(name: string, source: string): Promise<Uint8Array> {
  const dir = await mkdtemp(path.join(tmpdir(), 'cmesh-bench-'))
  try {
    const file = path.join(dir, `${name}.ts`)
    await writeFile(file, source)
    return (await compileContract(file)).wasm
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}
