/** A shell for commands that a reader types one after the other: it keeps variables, aliases and jobs, in a home of its own. */
import { spawn } from 'node:child_process'
import os from 'node:os'
import path from 'node:path'
import { root } from './check.mjs'

/** Longest wait for one command, in ms. */
export const COMMAND_MS = 180_000

export class Shell {
  #child
  #said = ''
  /** @type {(() => void) | undefined} */
  #heard

  /** @param {string} home The reader's home directory. */
  constructor(home) {
    this.#child = spawn('bash', ['--noprofile', '--norc'], { cwd: root, env: environment(home), stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child.stdout.on('data', (chunk) => {
      this.#said += chunk
      this.#heard?.()
    })
    this.#child.once('close', () => { this.#heard?.() })
    this.#child.stdin.write('exec 2>&1; shopt -s expand_aliases; set -m\n')
  }

  /**
   * @param {string} command
   * @returns {Promise<{ output: string, status: number }>}
   */
  async run(command) {
    const mark = `--${Math.random().toString(36).slice(2)}--`
    this.#said = ''
    this.#child.stdin.write(`${command}\nprintf '\\n${mark} %d\\n' $?\n`)
    const deadline = performance.now() + COMMAND_MS
    for (;;) {
      const end = new RegExp(`\\n${mark} (\\d+)\\n`).exec(this.#said)
      if (end !== null) return { output: this.#said.slice(0, end.index), status: Number(end[1]) }
      if (this.#child.exitCode !== null) throw new Error(`the shell ended while it ran: ${command}`)
      if (performance.now() > deadline) throw new Error(`${command} did not end within ${COMMAND_MS / 1_000} s:\n${this.#said}`)
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, 1_000)
        this.#heard = () => { clearTimeout(timer); resolve(undefined) }
      })
    }
  }

  async close() {
    this.#child.stdin.end('exit\n')
    if (this.#child.exitCode === null) await new Promise((resolve) => { this.#child.once('close', resolve) })
  }
}

/**
 * The machine without its user's own meshes and identities; what was downloaded already stays.
 *
 * @param {string} home
 */
function environment(home) {
  const kept = Object.entries(process.env).filter(([name]) => !/^(?:CMESH_|XDG_|npm_)/.test(name))
  return {
    ...Object.fromEntries(kept),
    HOME: home,
    XDG_CACHE_HOME: process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache'),
    npm_config_cache: process.env['npm_config_cache'] ?? path.join(os.homedir(), '.npm'),
  }
}
