/** What the contract compiler is kept from: that the engine translates it twice. Asked of V8 itself, in a process of its own. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from '@jest/globals'
import { ROOT } from '../support/sources.ts'

/** `(func (export "f") (param i32) (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))` */
const LOOP = [
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 1, 0x7f, 0, 3, 2, 1, 0, 7, 5, 1, 1, 0x66, 0, 0,
  10, 16, 1, 14, 0, 3, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b, 0x0b,
]

test.each([['stayOnBaseline()', 'true'], ['', 'false']])('a hot function, after `%s`, is still as it was translated first: %s', async (first, expected) => {
  const program = `
    import { stayOnBaseline } from '${pathToFileURL(join(ROOT, 'client', 'contract', 'baseline.ts')).href}'
    ${first}
    const { f } = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(${JSON.stringify(LOOP)}))).exports
    let calls = 0
    do {
      f(2_000_000)
      await new Promise(setImmediate)
    } while (++calls < 40 && %IsLiftoffFunction(f))
    console.log(%IsLiftoffFunction(f))`
  // One thread: what is to be translated again is so in a task of its own at the latest.
  const flags = ['--allow-natives-syntax', '--single-threaded', '--disable-warning=ExperimentalWarning', '--import', join(ROOT, 'test', 'typescript-hooks.mjs')]
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, '--input-type=module', '--eval', program])
  expect(stdout.trim()).toBe(expected)
})
