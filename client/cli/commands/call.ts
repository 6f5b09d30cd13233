/** `cmesh call`: sends one request and prints what came back. */
import { Option, type Command } from 'commander'
import type { CMeshError } from '../../../cmtp/errors.ts'
import type { DecodedLayer } from '../../../cmtp/layer.ts'
import { LIMITS } from '../../../cmtp/limits.ts'
import { usage } from '../../options.ts'
import type { Reply } from '../../reply.ts'
import { examples, integerFrom, printResult, time, withClient, withMesh, type MeshOptions } from '../command.ts'
import { EXIT, exitCodeOf, Reported } from '../exit-codes.ts'
import { failureDocument, printError } from '../failure.ts'
import { readInput } from '../input.ts'
import { durationText, moment } from '../moment.ts'
import { withProgress } from '../progress.ts'
import { receiptAsked, ReceiptPlace, WITNESS } from '../receipt-files.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'

interface CallOptions extends MeshOptions {
  readonly body?: string
  readonly bodyFile?: string
  readonly receipt: string
  readonly witness?: string | boolean
  readonly ifMatch?: string
  readonly at?: number
  readonly in?: number
}

export function call(program: Command, terminal: Terminal): void {
  withMesh(program.command('call').description('call an address and print the reply\'s body'))
    .argument('<fqmn>', 'the address, such as 0xS:0x001:hello_world')
    .option('--body <text>', 'body of the request; the arguments of a function as a JSON array')
    .option('--body-file <file>', 'body from a file, - for standard input')
    .option('--receipt <level|file>', 'what the reply proves itself by: none, hash or full; or a new file, which the whole receipt is written to', 'hash')
    .option('--witness <file>', 'where the witness of the receipt goes: bodies and arguments, for you alone (default: <receipt>.witness)')
    .option('--no-witness', 'keep none')
    .addOption(new Option('--if-match <hash>', 'do nothing unless the contract runs this code: its code hash').conflicts(['at', 'in']))
    .addOption(new Option('--at <time>', 'have the mesh make the call then: an ISO 8601 time, or ms since 1970').argParser(moment).conflicts(['receipt', 'witness']))
    .addOption(new Option('--in <ms>', 'have the mesh make the call after so many ms').argParser(integerFrom(0, LIMITS.laterAheadMs, durationText(LIMITS.laterAheadMs))).conflicts(['at', 'receipt', 'witness']))
    .addHelpText('after', examples(
      ['cmesh call 0xS:0x001:hello_world', '"Hello, world"'],
      ['cmesh call \'0xS:0x001:hello_world:["Dexter"]\'', 'arguments in the address'],
      ['cmesh call 0xSW:0x001:say --body \'["hi"]\'', 'a write, arguments in the body'],
      ['cmesh call 0xR:helloWorld.mcom:hello_world --receipt full', 'by name, with every hop\'s layer'],
      ['cmesh call 0xS:0x001:hello_world --receipt hello.receipt', 'and `cmesh receipt verify hello.receipt`, now or in years'],
    ))
    .action(async (fqmn: string, options: CallOptions) => {
      if (options.ifMatch !== undefined && !/^0x(?:SW|RW):/.test(fqmn)) {
        throw usage('--if-match goes with a write (0xSW, or 0xRW by a name), which it keeps from being done; nothing else looks at it.')
      }
      const body = await bodyOf(options)
      if (options.at !== undefined || options.in !== undefined) return delay(terminal, fqmn, body, options)
      const { level: receipt, file } = receiptAsked(options.receipt)
      if (file === undefined && options.witness !== undefined) throw usage('--witness and --no-witness go with --receipt FILE: there is no receipt to have one.')
      const place = file === undefined ? undefined : await ReceiptPlace.make(file, witnessOf(file, options.witness))
      const ask = { body, receipt, ifMatch: options.ifMatch, timeoutMs: options.timeout, signal: terminal.interrupted, throwOnError: false }
      const reply = await withClient(terminal, options, (client) => withProgress(terminal, `waiting for ${fqmn}`, () => client.call(fqmn, ask)))
        .catch(async (error: unknown) => {
          await place?.discard()
          throw error
        })
      const error = reply.error()
      // Of a refusal, too.
      const kept = place === undefined || file === undefined || await keep(terminal, reply, place, file)
      if (options.json === true) terminal.printJson(documentOf(reply, error))
      else if (error === undefined) print(terminal, reply)
      if (error !== undefined) {
        printError(terminal, error)
        throw new Reported(exitCodeOf(error))
      }
      if (!kept) throw new Reported(EXIT.internal)
    })
}

/** False where the files could not be written. What was asked was answered all the same, and whoever asks again does it twice. */
async function keep(terminal: Terminal, reply: Reply, place: ReceiptPlace, file: string): Promise<boolean> {
  try {
    if (await place.keep(reply)) terminal.note(terminal.styleNote('dim', `receipt in ${file}`))
    else terminal.note(`warning: the reply to ${reply.id} has no receipt, and ${file} was not written`)
    return true
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    terminal.note(`warning: ${why} The request was answered all the same; its receipt comes by \`cmesh receipt find ${reply.id}\`, its witness does not.`)
    return false
  }
}

/** Beside the receipt, where the user says nothing else. */
function witnessOf(receipt: string, given: string | boolean | undefined): string | undefined {
  return given === false ? undefined : typeof given === 'string' ? given : receipt + WITNESS
}

function delay(terminal: Terminal, fqmn: string, body: Uint8Array | string | undefined, options: CallOptions): Promise<void> {
  return withClient(terminal, options, async (client) => {
    const receipt = await client.later.call(fqmn, { at: options.at, inMs: options.in, body, timeoutMs: options.timeout, signal: terminal.interrupted })
    printResult(terminal, options, receipt, () => [`${receipt.id} ${time(receipt.atMs)}`])
  })
}

async function bodyOf({ body, bodyFile }: CallOptions): Promise<Uint8Array | string | undefined> {
  if (body !== undefined && bodyFile !== undefined) throw usage('Give --body or --body-file, not both.')
  return bodyFile === undefined ? body : await readInput(bodyFile)
}

function documentOf(reply: Reply, error: CMeshError | undefined): object {
  const { status, id, finalHash, transaction } = reply
  return {
    status, id, finalHash: finalHash ?? null,
    ...(transaction !== undefined && { transaction }),
    headers: Object.fromEntries(reply.headers),
    ...(error === undefined ? { body: bodyValue(reply) } : failureDocument(error)),
    ...(reply.receipt === 'full' && { layers: reply.layers().map(layerOf) }),
  }
}

/** The JSON value, else the text, else the bytes as `{"base64": …}`. */
function bodyValue(reply: Reply): unknown {
  try {
    return reply.header('content-type') === 'application/json' ? reply.json() : reply.text()
  } catch {
    // No UTF-8: what a content type promises is not always kept.
    return { base64: Buffer.from(reply.body).toString('base64') }
  }
}

function layerOf({ hop, node, fqmn, target, decision, grant, status, startUs, durationUs, gas }: DecodedLayer): object {
  return { hop, node, fqmn, target: target ?? null, decision, grant, status, startUs, durationUs, gas: gas.toString() }
}

function print(terminal: Terminal, reply: Reply): void {
  terminal.printForeign(reply.body)
  if (reply.body.at(-1) !== 0x0a) terminal.print('')
  const { status, finalHash, transaction } = reply
  if (reply.receipt === 'full') {
    const rows = reply.layers().map(({ hop, target, fqmn, decision, status: code, durationUs }) =>
      [hop, target ?? fqmn, decision, String(code), `${durationUs} µs`])
    const head = ['hop', 'address', 'decision', 'status', 'took']
    for (const line of table(rows, { boxes: terminal.resultsAreSeen, head, right: [3, 4] })) terminal.print(line)
  }
  // Beside the result, and only for a person: a script asks for --json.
  if (terminal.messagesAreSeen) {
    const parts = [String(status)]
    if (finalHash !== undefined) parts.push(`final hash ${finalHash}`)
    if (transaction !== undefined) parts.push(`transaction ${transaction}`)
    terminal.note(terminal.styleNote('dim', parts.join(' · ')))
  }
}
