/**
 * Entry point, before a contract's tests (`node --import`): makes `cmesh` and its parts resolve to this installation where the
 * project has none of its own, so that a contract can be tested before anything is installed beside it. With `?module=FILE` behind
 * its URL that module is deployed and called before the first test, so that no test waits for anything to be compiled.
 */
import { register } from 'node:module'
import { warmUp } from './modules.ts'

const here = new URL(import.meta.url)
register(new URL(`./resolve${here.pathname.slice(here.pathname.lastIndexOf('.'))}`, import.meta.url))

const module = here.searchParams.get('module')
if (module !== null) {
  try {
    warmUp(module)
  } catch {
    // What is wrong with it is for the tests to say: they deploy it.
  }
}
