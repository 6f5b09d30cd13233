/**
 * Lets a process that a test spawns run the TypeScript sources: `node --import <this file> child.ts`. Strips types by swc, as
 * jest does, and keeps what came of it by the content of the source: dozens of processes run the same sources.
 */
import { createHash } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { register } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { isMainThread } from 'node:worker_threads'

if (isMainThread) register(import.meta.url)

/** @type {import('@swc/core').Options} */
const OPTIONS = { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' }, module: { type: 'es6' }, sourceMaps: 'inline' }
const CACHE = fileURLToPath(new URL('../node_modules/.cache/cmesh/stripped/', import.meta.url))
const COMPILER = new URL('../node_modules/@swc/core/package.json', import.meta.url)
/** @type {Promise<string> | undefined} */
let compiler

/** @type {import('node:module').LoadHook} */
export async function load(url, context, next) {
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return next(url, context)
  return { format: 'module', source: await stripped(fileURLToPath(url)), shortCircuit: true }
}

/** @param {string} filename */
async function stripped(filename) {
  compiler ??= readFile(COMPILER, 'utf8')
  const source = await readFile(filename, 'utf8')
  const key = createHash('sha256').update(JSON.stringify([await compiler, OPTIONS, filename, source])).digest('hex')
  const kept = path.join(CACHE, `${key}.mjs`)
  const known = await readFile(kept, 'utf8').catch(() => undefined)
  if (known !== undefined) return known
  const { transform } = await import('@swc/core')
  const { code } = await transform(source, { ...OPTIONS, filename })
  // Whoever reads it meanwhile finds all of it or nothing.
  const part = `${kept}.${process.pid}`
  await mkdir(CACHE, { recursive: true })
  await writeFile(part, code)
  await rename(part, kept)
  return code
}
