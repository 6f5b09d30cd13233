/**
 * A C compiler for WebAssembly, where this machine has one: on the PATH, or unpacked into `node_modules/.cache/clang`, for which no
 * rights are needed (Debian and its kin):
 *
 *     apt-get download clang-14 lld-14 libclang-cpp14 libllvm14 libclang-common-14-dev
 *     for package in *.deb; do dpkg -x $package node_modules/.cache/clang; done
 */
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const UNPACKED = fileURLToPath(new URL('../../node_modules/.cache/clang/usr', import.meta.url))
const COMMANDS = ['clang', ...[14, 15, 16, 17, 18, 19, 20, 21].map((version) => `clang-${version}`)]
const ENVIRONMENT = {
  ...process.env,
  PATH: [process.env['PATH'], path.join(UNPACKED, 'bin')].join(path.delimiter),
  LD_LIBRARY_PATH: [process.env['LD_LIBRARY_PATH'], path.join(UNPACKED, 'lib', 'x86_64-linux-gnu')].filter(Boolean).join(path.delimiter),
}

/** Compiles a C file to a module; gives why it cannot be done on this machine instead of throwing. */
export function compileC(source: string, target: string): string | undefined {
  const flags = ['--target=wasm32', '-O2', '-nostdlib', '-Wall', '-Wextra', '-Werror', '-Wl,--no-entry,-z,stack-size=8192,--max-memory=4194304']
  for (const command of COMMANDS) {
    const { error, status, stderr } = spawnSync(command, [...flags, '-o', target, source], { env: ENVIRONMENT, encoding: 'utf8', timeout: 30_000 })
    if (error !== undefined) continue
    if (status === 0) return undefined
    if (stderr.includes(' error: ') && stderr.includes(path.basename(source))) throw new Error(stderr)
    return `${command} cannot compile for WebAssembly: ${stderr.split('\n')[0] ?? ''}`
  }
  return 'there is no clang on the PATH'
}
