/** What the checks share: the project's files, its pages, commands run with their output, and one way to say what is wrong. */
import { spawn } from 'node:child_process'
import { access, readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))

/** What is never a part of the project, where there is no git to ask. */
const ELSEWHERE = new Set(['.git', 'node_modules', 'dist', 'coverage'])

/** Paths of the files that belong to the project, whether committed yet or not. */
export async function projectFiles() {
  const listing = await run('git', ['ls-files', '--cached', '--others', '--exclude-standard', '-z']).catch(() => undefined)
  const listed = listing === undefined ? await walk('') : [...new Set(listing.output.split('\0'))].filter((file) => file !== '')
  const present = await Promise.all(listed.map((file) => access(path.join(root, file)).then(() => true, () => false)))
  return listed.filter((_, i) => present[i])
}

/**
 * @param {string} directory
 * @returns {Promise<string[]>}
 */
async function walk(directory) {
  const entries = await readdir(path.join(root, directory), { withFileTypes: true })
  const inside = await Promise.all(entries.filter(({ name }) => !ELSEWHERE.has(name)).map((entry) => {
    const place = path.posix.join(directory, entry.name)
    return entry.isDirectory() ? walk(place) : [place]
  }))
  return inside.flat()
}

/** Pages with their text, without what stands inside code blocks. */
export async function pages() {
  const files = (await projectFiles()).filter((file) => file.endsWith('.md'))
  return Promise.all(files.map(async (file) => {
    const text = await readFile(path.join(root, file), 'utf8')
    return { file, text, prose: text.replace(/^(```+).*\n[\s\S]*?^\1\s*$/gm, (block) => block.replace(/[^\n]/g, '')) }
  }))
}

/**
 * Runs a command to its end. Rejects when it fails, unless its failure is wanted.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, failing?: boolean }} [options]
 * @returns {Promise<{ status: number, output: string }>} What it said on standard output.
 */
export async function run(command, args, { cwd = root, env = process.env, failing = false } = {}) {
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  let complaint = ''
  child.stdout.on('data', (chunk) => { output += chunk })
  child.stderr.on('data', (chunk) => { complaint += chunk })
  const status = await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => { resolve(code ?? 1) })
  })
  if (status !== 0 && !failing) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${output}${complaint}`)
  return { status, output }
}

/** Collects what is wrong and, at the end, says it and sets the exit status. */
export class Findings {
  /** @type {string[]} */
  #wrong = []

  /** @param {string} what */
  add(what) {
    this.#wrong.push(what)
  }

  /** @param {boolean} holds @param {string} what */
  expect(holds, what) {
    if (!holds) this.add(what)
  }

  /** @param {string} fine What to say when nothing is wrong. */
  conclude(fine) {
    for (const what of this.#wrong) process.stderr.write(`${what}\n`)
    process.stdout.write(this.#wrong.length === 0 ? `${fine}\n` : `${this.#wrong.length} wrong\n`)
    process.exitCode = this.#wrong.length === 0 ? 0 : 1
  }
}
