/**
 * Contracts that nobody wrote, in great number: code without an end, compiled code with flipped bits, host functions in any order. Each
 * kind runs in a process of its own, since a module that escapes its gas would never give control back. TEST_LONG=1 for many more.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { compileContract } from '../../client/contract/compile.ts'
import { ROOT } from '../support/sources.ts'
import type { Fuzzed } from './contract-fuzz.ts'

const LONG = process.env['TEST_LONG'] === '1'
const CHILD = ['--import', new URL('../typescript-hooks.mjs', import.meta.url).href, fileURLToPath(new URL('./contract-fuzz.ts', import.meta.url))]

let dir: string
let child: ChildProcess | undefined
let progress = ''

beforeAll(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-fuzz-')) })
afterAll(() => rm(dir, { recursive: true, force: true }))
afterEach(() => {
  if (child !== undefined && child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL')
    process.stderr.write(`it was at ${progress}`)
  }
})

async function fuzz(kind: string, seed: number, count: number, files: readonly string[] = []): Promise<Fuzzed> {
  const started = child = spawn(process.execPath, [...CHILD, kind, String(seed), String(count), ...files], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  started.stdout.on('data', (chunk: Buffer) => { said += chunk.toString() })
  started.stderr.on('data', (chunk: Buffer) => { progress = chunk.toString() })
  const code = await new Promise<number | null>((resolve) => { started.once('close', resolve) })
  if (code !== 0) throw new Error(`${kind} ended with ${String(code)}: ${progress}`)
  return JSON.parse(said) as Fuzzed
}

describe('of contracts that nobody wrote', () => {
  test('code without an end ends when its gas does, and runs no further than it paid for', async () => {
    const { wrong, met } = await fuzz('endless', 11, LONG ? 60_000 : 2_000)
    expect(wrong).toEqual([])
    expect(Object.keys(met).sort()).toEqual(['returned', 'trapped'])
  }, LONG ? 900_000 : 60_000)

  test('compiled contracts with flipped bits are refused, or run to a result that leaves state whole', async () => {
    const files = await Promise.all(['hello', 'counter', 'guestbook'].map(async (name) => {
      const file = path.join(dir, `${name}.wasm`)
      await writeFile(file, (await compileContract(path.join(ROOT, 'contracts', name))).wasm)
      return file
    }))
    const { wrong, met } = await fuzz('flipped', 12, LONG ? 15_000 : 300, files)
    expect(wrong).toEqual([])
    expect(Object.keys(met)).toEqual(expect.arrayContaining(['ok', 'refused', 'CMESH_CONTRACT_REVERT']))
  }, LONG ? 900_000 : 60_000)

  test('host functions in any order with any arguments end in a result that leaves state whole', async () => {
    const { wrong, met } = await fuzz('hosts', 13, LONG ? 30_000 : 800)
    expect(wrong).toEqual([])
    expect(Object.keys(met)).toEqual(expect.arrayContaining(['ok', 'CMESH_CONTRACT_MEMORY_OOB', 'CMESH_CONTRACT_KEY_SIZE', 'CMESH_CONTRACT_ABI', 'CMESH_CONTRACT_OUT_OF_GAS']))
  }, LONG ? 900_000 : 60_000)
})
