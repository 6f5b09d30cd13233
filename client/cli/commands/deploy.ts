/** `cmesh deploy`: compiles a contract when it is AssemblyScript, and deploys it. */
import { basename, dirname, extname, resolve } from 'node:path'
import type { Command } from 'commander'
import { usage } from '../../options.ts'
import { SDK_VERSION } from '../../contract/abi.ts'
import { compileContract } from '../../contract/compile.ts'
import { examples, fields, printResult, withClient, withMesh, type MeshOptions } from '../command.ts'
import { withProgress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'

interface DeployOptions extends MeshOptions {
  readonly name?: string
  readonly version: string
  readonly init?: string
}

export function deploy(program: Command, terminal: Terminal): void {
  withMesh(program.command('deploy').description('deploy a contract (operator only)'))
    .argument('<file>', 'an AssemblyScript file or a directory with an index.ts, or a .wasm module')
    .option('--name <name>', 'what the contract is called (default: its file or directory)')
    .option('--version <version>', 'version of the contract', '0.1.0')
    .option('--init <json>', 'arguments of its init function, a JSON array')
    .addHelpText('after', examples(
      ['cmesh deploy contracts/guestbook/index.ts', 'compiles and deploys "guestbook"'],
      ['cmesh deploy token.wasm --name token --init \'["MTK", 1000]\'', 'a module, with init arguments'],
    ))
    .action(async (file: string, options: DeployOptions) => {
      const init = initOf(options.init)
      const compiled = extname(file) === '.wasm' ? undefined : await withProgress(terminal, `compiling ${file}`, () => compileContract(file))
      if (compiled !== undefined && compiled.warnings !== '') terminal.note(compiled.warnings)
      const name = options.name ?? nameOf(file)
      const source = compiled === undefined ? { file } : { wasm: compiled.wasm, compiler: compiled.compiler, sdk: SDK_VERSION }
      const deployment = { ...source, name, version: options.version, init, timeoutMs: options.timeout, signal: terminal.interrupted }
      const deployed = await withClient(terminal, options, (client) =>
        withProgress(terminal, `deploying ${name}`, () => client.deploy(deployment)))
      const functions = compiled?.abi.functions ?? []
      const result = { ...deployed, ...(compiled !== undefined && { bytes: compiled.stats.bytes, functions }) }
      printResult(terminal, options, result, () => fields(terminal, [
        ['contract', terminal.style('bold', deployed.name)],
        ['address', deployed.address],
        ['code hash', deployed.codeHash],
        ...functions.map((each, i): [string, string] => [i === 0 ? 'functions' : '', `${each.name} (${each.mode})`]),
      ]))
    })
}

function initOf(json: string | undefined): readonly unknown[] | undefined {
  if (json === undefined) return undefined
  try {
    const value: unknown = JSON.parse(json)
    if (Array.isArray(value)) return value as readonly unknown[]
  } catch {
    // Said below, as for JSON that is no array.
  }
  throw usage('--init takes a JSON array, such as \'["MTK", 1000]\'.')
}

/** `contracts/guestbook/index.ts` and `contracts/guestbook` are "guestbook", `token.wasm` is "token". */
function nameOf(file: string): string {
  const path = resolve(file)
  const name = basename(path, extname(path))
  return name === 'index' ? basename(dirname(path)) : name
}
