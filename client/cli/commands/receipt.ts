/** `cmesh receipt`: what a receipt says, whether it holds, and where to get one. */
import { InvalidArgumentError, type Command } from 'commander'
import { decodeLayer, type DecodedLayer } from '../../../cmtp/layer.ts'
import { claimants, type Claimants } from '../../../cmtp/receipt/claims.ts'
import { decodeReceipt, type DecodedReceipt } from '../../../cmtp/receipt/receipt.ts'
import { invalid } from '../../../cmtp/receipt/refusal.ts'
import { verifyReceipt } from '../../../cmtp/receipt/verify.ts'
import { layerSpanId } from '../../../cmtp/trace-context.ts'
import { usage } from '../../options.ts'
import { didFrom, examples, fields, meshOf, printResult, refuseIdle, time, withClient, withJson, withMesh, type JsonOption, type MeshOptions } from '../command.ts'
import { EXIT, Reported } from '../exit-codes.ts'
import { hopTree } from '../hop-tree.ts'
import { readInput } from '../input.ts'
import { writeOutput } from '../output.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'
import { exported } from './receipt-export.ts'
import { redact } from './receipt-redact.ts'
import { replay } from './receipt-replay.ts'

interface VerifyOptions extends JsonOption {
  readonly mesh?: string
  readonly witness?: string
  readonly claims?: number
  readonly data?: string
}

export function receipt(program: Command, terminal: Terminal): void {
  const command = program.command('receipt').description('look at receipts of requests, check them, get them')
  show(command, terminal)
  verify(command, terminal)
  redact(command, terminal)
  find(command, terminal)
  exported(command, terminal)
  replay(command, terminal)
}

function show(command: Command, terminal: Terminal): void {
  withJson(command.command('show').description('print what a receipt says; whether it holds is `cmesh receipt verify`'))
    .argument('<file>', 'the receipt, - for standard input')
    .addHelpText('after', examples(['cmesh receipt show hello.receipt', 'hops, decisions, times, gas, state']))
    .action(async (file: string, options: JsonOption) => {
      const decoded = decodeReceipt(await readInput(file))
      const layers = decoded.layers.map(({ shown }, at) => shown && shownLayer(shown, at))
      printResult(terminal, options, documentOf(decoded, layers), () => linesOf(terminal, decoded, layers))
    })
}

function verify(command: Command, terminal: Terminal): void {
  withJson(command.command('verify').description('check a receipt by the mesh\'s DID alone, without any mesh; names the first thing that is wrong'))
    .argument('<file>', 'the receipt, - for standard input')
    .option('--mesh <did>', 'the mesh that has to stand behind it (default: the mesh that runs on this machine)', didFrom)
    .option('--witness <file>', 'the witness of the receipt: bodies and arguments are checked as well')
    .option('--claims <n>', 'how many members must have claimed a write (default 0)', count)
    .option('--data <dir>', 'data directory of the mesh on this machine, for its DID')
    .addHelpText('after', examples(
      ['cmesh receipt verify hello.receipt --mesh did:key:z6Mk…', 'exit code 0: it holds; 1: it does not; 2: it is none'],
      ['cmesh receipt verify hello.receipt --json', 'for a script'],
    ))
    .action(async (file: string, options: VerifyOptions, self: Command) => {
      if (options.mesh !== undefined) refuseIdle(self, ['data'], '--mesh says which mesh has to stand behind the receipt.')
      const mesh = options.mesh ?? (await meshOf(terminal, options)).descriptor?.did
      if (mesh === undefined) throw usage('Say by --mesh which mesh has to stand behind the receipt: its DID.')
      const witness = options.witness === undefined ? undefined : await readInput(options.witness)
      const verdict = verifyReceipt(await readInput(file), mesh, {
        ...(witness !== undefined && { witness }), ...(options.claims !== undefined && { claims: options.claims }),
      })
      if (!verdict.valid) {
        const { at, index, reason, error } = verdict
        printResult(terminal, options, { valid: false, at, index: index ?? null, reason, code: error.code }, () => [
          `${terminal.style('red', 'invalid')}: ${at}${index === undefined ? '' : ` ${index}`}: ${reason}`,
        ])
        throw new Reported(at === 'format' ? EXIT.usage : EXIT.refused)
      }
      const { receipt: decoded, layers, root, claims } = verdict
      printResult(terminal, options, { valid: true, ...documentOf(decoded, layers), claims }, () => [
        `${terminal.style('green', 'valid')}: ${root.node} answered this for ${mesh}`,
        ...linesOf(terminal, decoded, layers),
        ...claims.map(({ member, epoch, seq, level }) => `${member}: block ${seq} of epoch ${epoch}, level ${level}`),
      ])
    })
}

function find(command: Command, terminal: Terminal): void {
  withMesh(command.command('find').description('get the receipt of a request, whichever node answered it: your own, or any with the right to read 0xE:audit:receipts'))
    .argument('<id>', 'the message id, 32 hex digits', messageId)
    .option('-o, --out <file>', 'where to write it, a new file (default: <id>.receipt)')
    .addHelpText('after', examples(['cmesh receipt find 019aa2…', 'as long as its layers are kept']))
    .action((id: string, options: MeshOptions & { readonly out?: string }) => withClient(terminal, options, async (client) => {
      const { body } = await client.call(`0xC:receipt:${id}`, { signal: terminal.interrupted })
      const file = await writeOutput(options.out ?? `${id}.receipt`, body)
      printResult(terminal, options, { id, file, bytes: body.length }, () => [`${file} (${body.length} bytes)`])
    }))
}

function messageId(text: string): string {
  const id = text.toLowerCase()
  if (!/^[0-9a-f]{32}$/.test(id)) throw new InvalidArgumentError('A message id has 32 hex digits; `cmesh call --json` and `cmesh receipt show` print it as id and message.')
  return id
}

function count(text: string): number {
  if (!/^\d{1,2}$/.test(text)) throw new InvalidArgumentError('It must be an integer from 0 to 99.')
  return Number(text)
}

function documentOf(receipt: DecodedReceipt, layers: readonly (DecodedLayer | undefined)[]): object {
  const { id, status, sid, sub, final, index, record, evidence } = receipt
  return {
    id: hex(id), status, session: sid, caller: sub, final: hex(final),
    layers: layers.map((layer) => layer === undefined ? null : layerOf(layer)), keptBack: keptBack(layers),
    root: {
      mesh: record.mesh, node: record.node, log: hex(record.log), batch: record.batch, request: record.first + index,
      count: record.count, timeUs: record.timeUs,
    },
    claimed: evidence === undefined ? null : claimedOf(claimants(evidence)),
  }
}

/** A layer as it stands in a receipt. Throws `CMESH_RECEIPT_INVALID` for one that is none: the hashes of such a receipt do not hold either. */
function shownLayer({ layer, texts }: { readonly layer: Uint8Array, readonly texts: Uint8Array }, at: number): DecodedLayer {
  try {
    return decodeLayer(Buffer.concat([layer, texts]))
  } catch (cause) {
    throw invalid('layer', `layer ${at} cannot be read`, at, cause)
  }
}

/** Numbers of the layers that are not shown. */
function keptBack(layers: readonly (DecodedLayer | undefined)[]): number[] {
  return layers.flatMap((layer, at) => layer === undefined ? [at] : [])
}

function layerOf({ hop, node, fqmn, target, decision, grant, status, startUs, durationUs, gas, before, after }: DecodedLayer): object {
  const position = (at: DecodedLayer['after']): object | null => at === undefined ? null : { epoch: at.epoch, seq: at.seq, chain: hex(at.chain) }
  return {
    hop, node, fqmn, target: target ?? null, decision, grant, status, startUs, durationUs, gas: gas.toString(),
    before: position(before), after: position(after),
  }
}

function linesOf(terminal: Terminal, receipt: DecodedReceipt, layers: readonly (DecodedLayer | undefined)[]): string[] {
  const { id, status, sub, record, index, evidence } = receipt
  const hidden = keptBack(layers)
  const startUs = layers.at(-1)?.startUs
  const rows = hopTree(layers.length).map(({ at, branch }) => {
    const layer = layers[at]
    if (layer === undefined) return [String(at), `${branch}kept back`, `hash ${hex(receipt.layers[at]?.hash ?? []).slice(0, 16)}`, '', '', '', '', '']
    const since = startUs === undefined ? '' : `+${layer.startUs - startUs} µs`
    const { after, before } = layer
    const state = after ?? before
    return [
      String(at), `${branch}${layer.hop}`, terminal.foreign(layer.target ?? layer.fqmn),
      layer.grant === '' ? layer.decision : terminal.foreign(`${layer.decision} by ${layer.grant}`), String(layer.status),
      `${since} ${layer.durationUs} µs`.trim(), layer.gas === 0n ? '' : `${layer.gas} gas`,
      state === undefined ? '' : `${state.epoch}/${state.seq} ${hex(state.chain).slice(0, 16)}`,
    ]
  })
  return [
    ...fields(terminal, [
      ['message', hex(id)], ['status', String(status)], ...(startUs === undefined ? [] : [['span', layerSpanId(id, startUs, 0)] as const]), ['caller', sub === '' ? 'nobody' : terminal.foreign(sub)], ['node', record.node], ['mesh', record.mesh],
      ['recorded', `${time(record.timeUs / 1_000)}, request ${record.first + index} of the log ${hex(record.log).slice(0, 16)}, batch ${record.batch}`],
      ...(hidden.length === 0 ? [] : [['kept back', `layer ${hidden.join(', ')}: its hash stands for it`] as const]),
    ]),
    ...table(rows, { boxes: terminal.resultsAreSeen, head: ['layer', 'hop', 'address', 'decision', 'status', 'time', 'gas', 'state'], right: [0, 4] }),
    ...(evidence === undefined ? [] : [claimedBy(claimants(evidence))]),
  ]
}

function claimedOf({ count, members, level }: Claimants): object {
  return { by: count, of: members ?? null, level }
}

function claimedBy({ count, members, level }: Claimants): string {
  const many = members === undefined ? `${count} ${count === 1 ? 'member' : 'members'}` : `${count} of ${members} ${members === 1 ? 'member' : 'members'}`
  return `claimed by ${many}, level ${level}`
}

function hex(bytes: Uint8Array | readonly number[]): string {
  return Buffer.from(bytes).toString('hex')
}
