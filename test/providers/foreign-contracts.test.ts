/** The ABI without the SDK: the same contract in WebAssembly text, in C where there is a compiler, and what both must do. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from '@jest/globals'
import binaryen from 'assemblyscript/binaryen'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { compileC } from '../support/c-compiler.ts'
import { ADDRESS, CALLER, Rig, bytes, failure, output, success, text } from '../support/engine-rig.ts'

const FOREIGN = fileURLToPath(new URL('../../contracts/foreign/', import.meta.url))
const ABI = readFileSync(path.join(FOREIGN, 'tally.abi.json'))

function assembled(): Uint8Array {
  const module = binaryen.parseText(readFileSync(path.join(FOREIGN, 'tally.wat'), 'utf8'))
  try {
    module.setFeatures(binaryen.Features.MVP)
    module.addCustomSection('cmesh.abi', ABI)
    return new Uint8Array(module.emitBinary())
  } finally {
    module.dispose()
  }
}

const directory = mkdtempSync(path.join(os.tmpdir(), 'cmesh-foreign-'))
const target = path.join(directory, 'tally.wasm')
const missing = compileC(path.join(FOREIGN, 'tally.c'), target)
const compiled = missing === undefined ? new Uint8Array(readFileSync(target)) : undefined
rmSync(directory, { recursive: true })

const MODULES: readonly (readonly [string, () => Uint8Array])[] = [
  ['WebAssembly text', assembled], ...(compiled === undefined ? [] : [['C', () => compiled] as const]),
]

describe.each(MODULES)('a contract in %s', (_language, wasm) => {
  const vote = (rig: Rig, option: string) => rig.call('vote', { input: bytes(JSON.stringify([option])) })

  test('has the ABI that its author wrote', () => {
    expect(new Rig(new WasmEngine(), wasm()).engine.abi(ADDRESS)).toEqual(JSON.parse(ABI.toString()))
  })

  test('counts, emits, shows who asks', () => {
    const rig = new Rig(new WasmEngine(), wasm())
    for (let i = 1; i < 12; i++) {
      const result = success(vote(rig, 'tea'))
      expect([text(result.output), result.events.map(({ topic, data }) => [topic, text(data)])]).toEqual([String(i), [['voted', 'tea']]])
    }
    success(vote(rig, 'coffee'))
    const count = (option: string) => output(rig.call('count', { view: true, input: bytes(JSON.stringify([option])) }))
    expect([count('tea'), count('coffee'), count('milk')]).toEqual(['11', '1', '0'])
    expect([...rig.space].map(([key, value]) => [key, [...value]])).toEqual([['tea', [11, 0, 0, 0]], ['coffee', [1, 0, 0, 0]]])
    expect(output(rig.call('voter', { view: true }))).toBe(JSON.stringify(CALLER))
  })

  test('refuses what it cannot read, and costs the same each time', () => {
    const rig = new Rig(new WasmEngine(), wasm())
    for (const input of ['', '[]', '["'.padEnd(70, 'x')]) {
      expect(failure(rig.call('vote', { input: bytes(input) }))).toEqual(['REVERT', 'one option of 1 to 64 characters is expected'])
    }
    vote(rig, 'tea')
    const { gas } = success(vote(rig, 'tea'))
    expect(success(vote(rig, 'tea')).gas).toBe(gas)
    expect(rig.call('vote', { input: bytes('["tea"]'), gasLimit: gas - 1 })).toMatchObject({ ok: false, failure: 'CMESH_CONTRACT_OUT_OF_GAS' })
  })
})

// A skip needs its reason: it stands in the name.
;(missing === undefined ? test : test.skip)(`the C compiler of this machine was used${missing === undefined ? '' : ` (skipped: ${missing})`}`, () => {
  expect(MODULES.map(([language]) => language)).toEqual(['WebAssembly text', 'C'])
})
