/** `cmesh state`: state by key, now or as it was, and proofs of it that hold without a mesh. */
import type { Command } from 'commander'
import type { ProvenState } from '../../../cmtp/state-proof.ts'
import { verifyStateProof } from '../../../cmtp/state-proof.ts'
import { usage } from '../../options.ts'
import { bytesFrom, bytesText, stateAt, stateChanges, stateProof, stateValue, type StateChange, type StateValue } from '../../state.ts'
import { didFrom, examples, fields, integerFrom, printResult, time, withClient, withJson, withMesh, type JsonOption, type MeshOptions } from '../command.ts'
import { readInput } from '../input.ts'
import { writeOutput } from '../output.ts'
import { withProgress } from '../progress.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'

const SEQUENCE = integerFrom(0, Number.MAX_SAFE_INTEGER)
const KEYS = '\nA key is text, hex:6b6579, json:"key" or text:key; the mesh\'s own records stand in the contract 0x000.'

export function state(program: Command, terminal: Terminal): void {
  const group = program.command('state').description('read state by key, now or as it was, and prove it')
    .addHelpText('after', examples(
      ['cmesh state get 0x002 count', 'what stands there now'],
      ['cmesh state get 0x000 name/hello.mcom --proof --out proof.json', 'with a proof'],
      ['cmesh state verify proof.json --mesh did:key:z6Mk…', 'anywhere, without a mesh'],
      ['cmesh state diff 10 20', 'what changed'],
    ))
  get(group, terminal)
  diff(group, terminal)
  verify(group, terminal)
  checkpoint(group, terminal)
}

interface GetOptions extends MeshOptions {
  readonly at?: number
  readonly proof?: boolean
  readonly out?: string
}

function get(group: Command, terminal: Terminal): void {
  withMesh(group.command('get').description('print the value of a key, with a proof or as it was'))
    .argument('<contract>', 'its address')
    .argument('<key>', 'the key')
    .option('--at <seq>', 'after this block', SEQUENCE)
    .option('--proof', 'as it was at the newest checkpoint, with a proof: print that')
    .option('--out <file>', 'write the proof there, to a new file')
    .addHelpText('after', examples(
      ['cmesh state get 0x002 count --at 12', 'after block 12'],
      ['cmesh state get 0x000 name/hello.mcom --proof --out proof.json', 'whose name it is, for somebody else'],
    ))
    .addHelpText('after', KEYS)
    .action(async (contract: string, given: string, options: GetOptions) => {
      const key = bytesFrom(given)
      const { at, proof, out } = options
      if (at !== undefined && proof === true) throw usage('--proof is of the newest checkpoint: it cannot be asked for with --at.')
      if (out !== undefined && proof !== true) throw usage('--out belongs to --proof.')
      await withClient(terminal, options, async (client) => {
        const signal = terminal.interrupted
        if (proof === true) {
          const { text, proven } = await stateProof(client, contract, key, { signal })
          if (out === undefined) return terminal.print(text)
          await writeOutput(out, Buffer.from(`${text}\n`))
          return printProven(terminal, options, proven)
        }
        const found = at === undefined
          ? await stateValue(client, contract, key, { signal })
          : await withProgress(terminal, 'reading back', (progress) => stateAt(client, contract, key, at, {
            signal, onProgress: (seq) => { progress.update(`reading back from block ${at}: ${seq} left`) },
          }))
        printValue(terminal, options, contract, key, found)
      })
    })
}

function printValue(terminal: Terminal, options: JsonOption, contract: string, key: Buffer, { value, seq, written }: StateValue): void {
  const shown = { contract, key: bytesText(key), value: value === undefined ? null : bytesText(value), seq, ...(written !== undefined && { written }) }
  printResult(terminal, options, shown, () => fields(terminal, [
    ['value', shown.value === null ? 'none' : terminal.foreign(shown.value)],
    ['after block', String(seq)],
    ...(written === undefined || written === 0 ? [] : [['written by', `block ${written}`] as const]),
  ]))
}

interface DiffOptions extends MeshOptions {
  readonly contract?: string
}

function diff(group: Command, terminal: Terminal): void {
  withMesh(group.command('diff').description('list the keys that were written between two blocks, with what they hold then'))
    .argument('<from>', 'after this block', SEQUENCE)
    .argument('<to>', 'up to this one', SEQUENCE)
    .option('--contract <address>', 'of this contract alone')
    .addHelpText('after', examples(
      ['cmesh state diff 0 20', 'everything up to block 20'],
      ['cmesh state diff 10 20 --contract 0x002', 'what one contract wrote'],
    ))
    .action((from: number, to: number, options: DiffOptions) => withClient(terminal, options, async (client) => {
      const { changes, hidden } = await withProgress(terminal, 'reading', (progress) => stateChanges(client, { from, to, contract: options.contract }, {
        signal: terminal.interrupted, onProgress: (seq) => { progress.update(`reading blocks ${from} to ${to}: at ${seq}`) },
      }))
      const shown = changes.map(({ contract, key, seq, value, long }) => ({
        contract, key: bytesText(key), seq, ...(long ?? { value: value === undefined ? null : bytesText(value) }),
      }))
      printResult(terminal, options, { from, to, changes: shown, hidden }, () => [
        ...(changes.length === 0 ? [] : table(
          changes.map((change) => [change.contract, terminal.foreign(bytesText(change.key)), String(change.seq), valueText(terminal, change)]),
          { boxes: terminal.resultsAreSeen, head: ['contract', 'key', 'block', 'value'], right: [2] },
        )),
        ...(hidden === 0 ? [] : [`${hidden} writes to contracts whose keys you may not read`]),
      ])
    }))
}

function valueText(terminal: Terminal, { value, long }: StateChange): string {
  if (long !== undefined) return `${long.bytes} bytes, SHA-256 ${long.sha256.slice(0, 16)}…`
  return value === undefined ? 'deleted' : terminal.foreign(bytesText(value))
}

interface VerifyOptions extends JsonOption {
  readonly mesh: string
}

function verify(group: Command, terminal: Terminal): void {
  withJson(group.command('verify').description('check a proof; asks no mesh'))
    .argument('<file>', 'the proof, - for standard input')
    .requiredOption('--mesh <did>', 'whose proof it must be: the DID of the mesh', didFrom)
    .addHelpText('after', examples(['cmesh state verify proof.json --mesh did:key:z6Mk…', 'what it proves, or why it does not']))
    .action(async (file: string, options: VerifyOptions) => {
      printProven(terminal, options, verifyStateProof(Buffer.from(await readInput(file)).toString('utf8'), options.mesh))
    })
}

function printProven(terminal: Terminal, options: JsonOption, proven: ProvenState): void {
  const { mesh, contract, epoch, seq, timeMs, signers } = proven
  const shown = {
    mesh, contract, key: bytesText(proven.key), value: proven.value === undefined ? null : bytesText(proven.value), epoch, seq, timeMs,
    root: proven.root.toString('hex'), chain: Buffer.from(proven.chain).toString('hex'), signers,
  }
  printResult(terminal, options, shown, () => fields(terminal, [
    ['proven', `${contract} ${terminal.foreign(shown.key)}`],
    ['value', shown.value === null ? 'none' : terminal.foreign(shown.value)],
    ['after block', `${seq} of epoch ${epoch}, ${time(timeMs)}`],
    ['mesh', mesh],
    ...signers.map(({ node, head, atMs }, i): [string, string] => [
      i === 0 ? 'signed by' : '', `${node === mesh ? 'the mesh\'s own key' : node} at ${time(atMs)}, ${head - seq} blocks later`,
    ]),
  ]))
}

function checkpoint(group: Command, terminal: Terminal): void {
  withMesh(group.command('checkpoint').description('order a checkpoint now, which proofs are then made by'))
    .addHelpText('after', examples(['cmesh state checkpoint', 'what stands now can be proven at once']))
    .action((options: MeshOptions) => withClient(terminal, options, async (client) => {
      const made = (await client.call('0xSW:0x000:checkpoint', { signal: terminal.interrupted })).json<{ readonly seq: number }>()
      printResult(terminal, options, made, () => [`checkpoint at block ${made.seq}`])
    }))
}
