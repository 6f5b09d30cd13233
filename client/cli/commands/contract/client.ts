/** `cmesh contract client`: the source of a typed client, for a contract in a file or on a mesh. */
import { writeFile } from 'node:fs/promises'
import { extname } from 'node:path'
import type { Command } from 'commander'
import type { ContractAbi } from '../../../contract/abi.ts'
import { examples, MESH_OPTIONS, printResult, refuseIdle, withClient, withMesh, type MeshOptions } from '../../command.ts'
import { clientOf } from '../../contract/build.ts'
import { codeOf } from '../../contract/code.ts'
import { findContract, patience } from '../../contract/deployed.ts'
import { isFile } from '../../contract/project.ts'
import { reportOf } from '../../contract/report.ts'
import type { Terminal } from '../../terminal.ts'

interface ClientOptions extends MeshOptions {
  readonly out?: string
}

export function client(group: Command, terminal: Terminal): void {
  withMesh(group.command('client').description('write a typed client for a contract'))
    .argument('[contract]', 'an address, a name, or a file: .wasm, .cmpk, source', '.')
    .option('--out <file>', 'where to write (default: standard output)')
    .addHelpText('after', examples(
      ['cmesh contract client 0x002 --out counter.ts', 'for a contract on the mesh'],
      ['cmesh contract client build/token.wasm', 'for one in a file'],
    ))
    .action(async (given: string, options: ClientOptions, command: Command) => {
      const local = given === '.' || ['.wasm', '.cmpk', '.ts'].includes(extname(given)) || await isFile(`${given}/index.ts`)
      if (local) refuseIdle(command, MESH_OPTIONS, 'a contract in a file asks no mesh.')
      const { name, abi } = local ? await inFile(terminal, given) : await onMesh(terminal, given, options)
      const source = clientOf(name, abi)
      if (options.out !== undefined) await writeFile(options.out, source)
      if (options.out === undefined && options.json !== true) return terminal.printForeign(Buffer.from(source))
      printResult(terminal, options, { name, ...(options.out === undefined ? { source } : { file: options.out }) }, () => [`${terminal.style('green', 'wrote')} ${options.out ?? ''}`])
    })
}

interface Described {
  readonly name: string
  readonly abi: ContractAbi
}

async function inFile(terminal: Terminal, path: string): Promise<Described> {
  const code = await codeOf(terminal, path)
  return { name: code.manifest.name, abi: code.abi ?? (await reportOf(terminal, 'check', code)).abi }
}

async function onMesh(terminal: Terminal, given: string, options: MeshOptions): Promise<Described> {
  const { manifest, abi } = await withClient(terminal, options, (mesh) => findContract(mesh, given, patience(terminal, options)))
  return { name: manifest.name, abi }
}
