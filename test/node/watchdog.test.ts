import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Watchdog } from '../../node/watchdog.ts'
import { contractModule } from '../support/contract-module.ts'
import { refusal } from '../support/refusal.ts'

const HOOKS = new URL('../typescript-hooks.mjs', import.meta.url).href
const PROCESS = fileURLToPath(new URL('../support/watched-process.ts', import.meta.url))
const LIMIT_MS = 400
/** Long enough that a machine which stands still for a while does not look like a contract that does not return. */
const LENIENT_MS = 1_500

interface Ended {
  readonly code: number | null
  readonly signal: string | null
  readonly stdout: string
  readonly stderr: string
}

let directory = ''
let wasm = ''
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cmesh-watchdog-'))
  wasm = join(directory, 'contract.wasm')
  await writeFile(wasm, contractModule(`
    (func (export "call_spin") (loop $again (br $again)))
    (func (export "call_work") (local $i i32)
      (loop $again (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000000)))))`))
})
afterAll(async () => {
  await rm(directory, { recursive: true, force: true })
})

async function ended(mode: string, limitMs = LIMIT_MS): Promise<Ended> {
  const child = spawn(process.execPath, ['--import', HOOKS, PROCESS, wasm, String(limitMs), mode],
    { stdio: ['ignore', 'pipe', 'pipe'] })
  const texts = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) child[name].setEncoding('utf8').on('data',
    (text: string) => { texts[name] += text })
  try {
    return await new Promise<Ended>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (code, signal) => { resolve({ code, signal, ...texts }) })
    })
  } finally {
    child.kill('SIGKILL')
  }
}

describe('the watchdog', () => {
  test.each(['spin', 'restart'])('halts a process whose contract never returns, and says which (%s)', async (mode) => {
    expect(await ended(mode)).toEqual({
      code: null,
      signal: 'SIGKILL',
      stdout: 'ready\n',
      stderr: `cmesh: halted by the watchdog: a call of contract 0x002 did not return within ${LIMIT_MS} ms\n`,
    })
  })

  test('leaves alone a process that is busy for longer than the limit with calls that return', async () => {
    expect(await ended('busy', LENIENT_MS)).toEqual({ code: 0, signal: null, stdout: 'ready\ndone\n', stderr: '' })
  })

  test.each([0, 19, 600_001, Number.NaN])('refuses a limit of %d ms', (limitMs) => {
    const refused = refusal(() => new Watchdog({ limitMs }))
    expect(refused.code).toBe('CMESH_CONFIG_INVALID')
    expect(refused.message).toBe('The setting limitMs is not valid: it is not a number of ms from 20 to 600,000.')
  })

  test('does not keep a process alive', async () => {
    expect(await ended('idle', LENIENT_MS)).toEqual({ code: 0, signal: null, stdout: 'ready\ndone\n', stderr: '' })
  })
})
