/** `cmesh contract verify`: whether what runs at an address is what a source compiles to, and if not, what exactly differs. */
import type { Command } from 'commander'
import { codeHash } from '../../../../cmtp/package.ts'
import { examples, fields, integerFrom, withClient, withMesh, type MeshOptions } from '../../command.ts'
import { compiled } from '../../contract/code.ts'
import { findContract, patience } from '../../contract/deployed.ts'
import { moduleDifference, type ModuleDifference } from '../../contract/module-difference.ts'
import { findProject } from '../../contract/project.ts'
import { EXIT, Reported } from '../../exit-codes.ts'
import { usage } from '../../../options.ts'
import { withProgress } from '../../progress.ts'
import type { Terminal } from '../../terminal.ts'

interface VerifyOptions extends MeshOptions {
  readonly source: string
  readonly version?: number
}

/** What of the manifest decides what a compiler makes of a source. */
const FACTS = ['compiler', 'sdk', 'flags', 'sourceHash'] as const

/** Parts of a module that are listed for a person. */
const MOST_PARTS = 20

interface FactDifference {
  readonly fact: string
  readonly mesh: string
  readonly here: string
}

export function verify(group: Command, terminal: Terminal): void {
  withMesh(group.command('verify').description('compile a source and compare with what runs at an address'))
    .argument('<contract>', 'its address, or a name it has')
    .option('--source <path>', 'the source: a project\'s directory or an AssemblyScript file', '.')
    .option('--version <n>', 'an earlier version of the contract (default: the one in force)', integerFrom(1, Number.MAX_SAFE_INTEGER))
    .addHelpText('after', examples(
      ['cmesh contract verify 0x002 --source contracts/counter', 'exit code 0 when it is the same, 1 when not'],
      ['cmesh contract verify counter.mcom --version 1', 'what ran before it was replaced'],
    ))
    .action(async (given: string, options: VerifyOptions) => {
      const here = await compiled(terminal, await findProject(options.source))
      const { address, version, module } = await withClient(terminal, options, (client) => withProgress(terminal, `reading ${given}`, async () => {
        const ask = patience(terminal, options)
        const { address } = await findContract(client, given, ask)
        const history = await client.versions(address, ask)
        const wanted = options.version === undefined ? history.at(-1) : history.find((each) => each.version === options.version)
        if (wanted === undefined) throw usage(`${address} has no version ${String(options.version)}; it has ${history.map((each) => each.version).join(', ')}.`)
        return { address, version: wanted, module: await client.code(wanted.codeHash, ask) }
      }))
      const facts = FACTS.flatMap((fact): FactDifference[] =>
        (version.manifest[fact] === here.manifest[fact] ? [] : [{ fact, mesh: version.manifest[fact], here: here.manifest[fact] }]))
      const difference = moduleDifference(module, here.module)
      const same = difference === undefined && facts.length === 0
      const hashes = { mesh: version.codeHash, here: codeHash(here.module) }
      const found = { address, version: version.version, hashes, sourceHash: here.manifest.sourceHash, facts, difference }
      const document = { address, version: found.version, same, codeHash: hashes, manifest: facts, difference: difference ?? null }
      if (options.json === true) terminal.printJson(document)
      else for (const line of lines(terminal, found)) terminal.print(line)
      if (!same) throw new Reported(EXIT.refused)
    })
}

interface Comparison {
  readonly address: string
  readonly version: number
  readonly hashes: { readonly mesh: string, readonly here: string }
  readonly sourceHash: string
  readonly facts: readonly FactDifference[]
  readonly difference: ModuleDifference | undefined
}

function lines(terminal: Terminal, { address, version, hashes, sourceHash, facts, difference }: Comparison): string[] {
  const code: [string, string][] = difference === undefined
    ? [['code hash', `${hashes.mesh}, the same`]]
    : [
        ['code hash', `${hashes.mesh} on the mesh`],
        ['', `${hashes.here} from this source`],
        ['first byte', `${difference.offset}, in ${difference.at}`],
        ['functions', `${difference.functions[0]} on the mesh, ${difference.functions[1]} from this source`],
        ...difference.parts.slice(0, MOST_PARTS).map(({ part, left, right }, i): [string, string] => [
          i === 0 ? 'differs' : '', `${part}: ${size(left)} on the mesh, ${size(right)} from this source`,
        ]),
        ...(difference.parts.length > MOST_PARTS ? [['', `and ${difference.parts.length - MOST_PARTS} more; --json lists them`]] as [string, string][] : []),
      ]
  const same: [string, string][] = difference === undefined && !facts.some(({ fact }) => fact === 'sourceHash') ? [['source hash', `${sourceHash}, the same`]] : []
  const manifest = facts.map(({ fact, mesh, here }): [string, string] => [fact, `${terminal.foreign(mesh)} on the mesh, ${here} from this source`])
  const verdict = difference !== undefined
    ? `${terminal.style('red', 'differs')} version ${version} of ${address} is not what this source compiles to`
    : facts.length > 0
      ? `${terminal.style('yellow', 'differs')} version ${version} of ${address} has this code, but its manifest says otherwise`
      : `${terminal.style('green', 'verified')} version ${version} of ${address} is what this source compiles to`
  return [verdict, ...fields(terminal, [...code, ...same, ...manifest])]
}

function size(bytes: number | null): string {
  return bytes === null ? 'missing' : `${bytes} bytes`
}
