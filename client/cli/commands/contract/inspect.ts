/** `cmesh contract inspect`: what a contract is, on a mesh or in a file: manifest, functions, imports, sizes, versions. */
import { extname } from 'node:path'
import type { Command } from 'commander'
import type { ContractManifest } from '../../../../cmtp/package.ts'
import type { ContractVersion } from '../../../deployment.ts'
import { grouped } from '../../../grouped.ts'
import { examples, fields, MESH_OPTIONS, printResult, refuseIdle, time, withClient, withMesh, type MeshOptions } from '../../command.ts'
import { codeOf } from '../../contract/code.ts'
import { findContract, patience } from '../../contract/deployed.ts'
import type { GasHint, InspectReport } from '../../contract/kit-process.ts'
import { isFile } from '../../contract/project.ts'
import { kilobytes, reportOf, signature } from '../../contract/report.ts'
import { table } from '../../table.ts'
import type { Terminal } from '../../terminal.ts'

interface Inspection extends InspectReport {
  readonly manifest: ContractManifest
  readonly strategy?: string
  /** Of a contract on a mesh. */
  readonly address?: string
  readonly proxyOf?: string
  readonly versions?: readonly ContractVersion[]
}

export function inspect(group: Command, terminal: Terminal): void {
  withMesh(group.command('inspect').description('show what a contract is, on a mesh or in a file'))
    .argument('[contract]', 'an address, a name, or a file: .wasm, .cmpk, source', '.')
    .addHelpText('after', examples(
      ['cmesh contract inspect 0x001', 'a contract on the mesh, with its versions'],
      ['cmesh contract inspect build/token.cmpk', 'a package, before it is deployed'],
    ))
    .addHelpText('after', '\nGas is that of a call with zeros and empty texts on the state that init leaves.')
    .action(async (given: string, options: MeshOptions, command: Command) => {
      const local = given === '.' || ['.wasm', '.cmpk', '.ts'].includes(extname(given)) || await isFile(`${given}/index.ts`)
      if (local) refuseIdle(command, MESH_OPTIONS, 'a contract in a file asks no mesh.')
      const found = local ? await inFile(terminal, given) : await onMesh(terminal, given, options)
      printResult(terminal, options, found, () => lines(terminal, found))
    })
}

async function inFile(terminal: Terminal, path: string): Promise<Inspection> {
  const code = await codeOf(terminal, path)
  return { ...await reportOf(terminal, 'inspect', code), manifest: code.manifest, ...(code.replaceable !== undefined && { strategy: code.replaceable ? 'replaceable' : 'immutable' }) }
}

async function onMesh(terminal: Terminal, given: string, options: MeshOptions): Promise<Inspection> {
  const { contract, versions, module } = await withClient(terminal, options, async (client) => {
    const ask = patience(terminal, options)
    const contract = await findContract(client, given, ask)
    return { contract, versions: await client.versions(contract.address, ask), module: await client.code(contract.codeHash, ask) }
  })
  const { address, proxyOf, manifest, strategy } = contract
  const report = await reportOf(terminal, 'inspect', { module, manifest })
  return { ...report, manifest, strategy, address, ...(proxyOf !== undefined && { proxyOf }), versions }
}

function lines(terminal: Terminal, found: Inspection): string[] {
  const { manifest, abi, bytes, meteredBytes, imports, hints, versions = [] } = found
  const rows = abi.functions.map((each) => [signature(each), each.mode, hintText(hints[each.name])])
  return [
    ...fields(terminal, [
      ['contract', `${terminal.style('bold', terminal.foreign(manifest.name))} ${terminal.foreign(manifest.version)}`],
      ...(found.address === undefined ? [] : [['address', found.address]] as [string, string][]),
      ...(found.proxyOf === undefined ? [] : [['proxy of', found.proxyOf]] as [string, string][]),
      ...(found.strategy === undefined ? [] : [['strategy', found.strategy]] as [string, string][]),
      ['size', `${kilobytes(bytes)}, ${kilobytes(meteredBytes)} when metered, ${found.functions} functions inside`],
      ['code hash', found.codeHash],
      ['source hash', manifest.sourceHash],
      ['compiler', terminal.foreign(`${manifest.compiler}, SDK ${manifest.sdk}`)],
      ['imports', imports.join(' ')],
    ]),
    ...table(rows, { boxes: terminal.resultsAreSeen, head: ['function', 'mode', 'gas'], right: [2] }),
    ...(abi.events.length === 0 ? [] : table(
      abi.events.map(({ name, fields: parts }) => [name, parts.map((part) => `${part.name}: ${part.type}`).join(', ')]),
      { boxes: terminal.resultsAreSeen, head: ['event', 'fields'] },
    )),
    ...(versions.length === 0 ? [] : table(
      versions.map(({ version, seq, timeMs, codeHash: hash, manifest: { version: semantic } }) => [String(version), semantic, `#${seq}`, time(timeMs), hash.slice(0, 16)]),
      { boxes: terminal.resultsAreSeen, head: ['version', 'of', 'from block', 'at', 'code hash'], right: [0] },
    )),
  ]
}

function hintText(hint: GasHint | undefined): string {
  if (hint === undefined) return ''
  return hint.failed === undefined ? grouped(hint.gas) : hint.failed.replace('CMESH_CONTRACT_', '').toLowerCase().replaceAll('_', ' ')
}
