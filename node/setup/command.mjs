/** Runs one command to its end and keeps what it printed. It never goes through a shell and never rejects. */
import { spawn } from 'node:child_process'

/**
 * @typedef {object} Ended
 * @property {number | string} status Exit status, name of the signal that ended it, or why it could not be started.
 * @property {boolean} missing Whether there is no such command.
 * @property {string} output What it wrote to standard output and standard error, in the order it came.
 */

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd: string, timeoutMs?: number }} options The command is killed after `timeoutMs`. Default: never.
 * @returns {Promise<Ended>}
 */
export function runCommand(command, args, { cwd, timeoutMs }) {
  return new Promise((resolve) => {
    let output = ''
    const env = { ...process.env, LC_ALL: 'C' }
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], ...(timeoutMs && { timeout: timeoutMs }) })
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { output += chunk })
    child.once('error', (error) => {
      resolve({ status: error.message, missing: /** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT', output })
    })
    child.once('close', (code, signal) => resolve({ status: code ?? signal ?? 'unknown', missing: false, output }))
  })
}
