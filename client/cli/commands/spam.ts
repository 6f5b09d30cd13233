/** `cmesh spam`: a load on the mesh, beside bare NATS in the same run. */
import { createWriteStream, type WriteStream } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { Option, type Command } from 'commander'
import type { ReceiptLevel } from '../../../cmtp/wire.ts'
import type { MeshClient } from '../../mesh-client.ts'
import { usage } from '../../options.ts'
import type { Reply } from '../../reply.ts'
import { checkMix, claimMixName, DEFAULT_MIX, readLog } from '../../spam/mix.ts'
import { RawBaseline } from '../../spam/raw-baseline.ts'
import { spam as run, type SpamReport } from '../../spam/spam.ts'
import { examples, integerFrom, printResult, refuseIdle, withClient, withMesh, type MeshOptions } from '../command.ts'
import { EXIT, Reported } from '../exit-codes.ts'
import { withProgress, type Progress } from '../progress.ts'
import { keepReceipt, RECEIPT, WITNESS } from '../receipt-files.ts'
import { spamLines } from '../spam-report.ts'
import type { Terminal } from '../terminal.ts'

interface SpamOptions extends MeshOptions {
  readonly count: number
  readonly concurrency?: number
  readonly batch: number
  readonly rounds: number
  readonly warmUp: number
  readonly mix?: readonly string[]
  readonly log?: string
  readonly writeLog?: string
  readonly receipt: ReceiptLevel
  readonly receipts?: string
  readonly raw: boolean
  readonly coalesce: boolean
}

/** Messages in flight by default: single requests, and batches. */
const SINGLES = 256
const BATCHES = 8

export function spam(program: Command, terminal: Terminal): void {
  withMesh(program.command('spam').description('send many requests and measure them beside bare NATS'))
    .option('--count <n>', 'requests in all', integerFrom(1, 100_000_000), 30_000)
    .option('--concurrency <n>', `messages in flight (default: ${SINGLES}, of batches ${BATCHES})`, integerFrom(1, 65_536))
    .option('--batch <n>', 'requests in one message', integerFrom(1, 1_024), 1)
    .option('--rounds <n>', 'rounds, mesh and bare NATS in turn', integerFrom(1, 1_000), 5)
    .option('--warm-up <n>', 'requests before anything is measured', integerFrom(0, 10_000_000), 10_000)
    .option('--mix <fqmn...>', 'addresses, asked in turn (default: a view, a name and an event)')
    .option('--log <file>', 'ask the addresses of a request log, lines <id>;<FQMN>')
    .option('--write-log <file>', 'write such a log of what is sent')
    .addOption(new Option('--receipt <level>', 'what replies prove themselves by').choices(['none', 'hash', 'full']).default('hash'))
    .option('--receipts <dir>', 'keep the receipt of each request in this directory, and its witness; replies are asked for at full')
    .option('--no-coalesce', 'send each read in a message of its own')
    .option('--no-raw', 'leave bare NATS out')
    .addHelpText('after', examples(
      ['cmesh spam', '30,000 requests, 256 in flight'],
      ['cmesh spam --batch 100', 'a hundred requests a message'],
      ['cmesh spam --mix 0xS:0x001:hello_world --no-raw', 'one address, the mesh alone'],
      ['cmesh spam --count 1000 --write-log requests.log', 'and keep what was asked'],
      ['cmesh spam --log requests.log --json', 'ask it again'],
      ['cmesh spam --count 1000 --receipts ./receipts', 'and `cmesh receipt replay ./receipts`'],
    ))
    .action(async (options: SpamOptions, command: Command) => {
      if (options.receipts !== undefined) refuseIdle(command, ['receipt'], '--receipts asks for each receipt, which is the level full.')
      if (options.batch > 1) refuseIdle(command, ['coalesce'], 'with --batch it is said what shares a message.')
      const mix = await mixOf(options, terminal)
      const log = options.writeLog === undefined ? undefined : await openLog(options.writeLog)
      const { receipts } = options
      if (receipts !== undefined) await mkdir(receipts, { recursive: true, mode: 0o700 })
      const concurrency = options.concurrency ?? (options.batch === 1 ? SINGLES : BATCHES)
      const raw = options.raw ? await withProgress(terminal, 'starting bare NATS', () => RawBaseline.start(terminal.env)) : undefined
      let report: SpamReport
      try {
        const load = async (client: MeshClient, progress: Progress): Promise<SpamReport> => {
          if (mix === DEFAULT_MIX && await claimMixName(client)) terminal.note('helloWorldExample.mcom was free: it is yours now, for 0xS:0x001:hello_world')
          return await run({
            client, raw, mix, concurrency, count: options.count, batch: options.batch, rounds: options.rounds, warmUp: options.warmUp,
            coalesce: options.coalesce, signal: terminal.interrupted, onProgress: (_, text) => progress.update(text),
            ...(receipts !== undefined && { onReply: (reply) => keepIn(receipts, reply) }),
            ...(log !== undefined && { onSent: (id: string, fqmn: string) => { log.write(`${id};${fqmn}\n`) } }),
          })
        }
        report = await withClient(terminal, options, (client) => withProgress(terminal, 'warming up', (progress) => load(client, progress)),
          { throwOnError: false, receipt: receipts === undefined ? options.receipt : 'full', coalesce: options.coalesce })
      } finally {
        await raw?.stop()
        log?.end()
        if (log !== undefined) await finished(log)
      }
      printResult(terminal, options, report, () => spamLines(terminal, report))
      if (report.interrupted) throw new Reported(EXIT.interrupted)
      if (report.failed > 0) throw new Reported(EXIT.refused)
    })
}

async function keepIn(dir: string, reply: Reply): Promise<void> {
  const file = join(dir, reply.id + RECEIPT)
  await keepReceipt(reply, { file, witness: file + WITNESS })
}

async function mixOf({ mix, log }: SpamOptions, terminal: Terminal): Promise<readonly string[]> {
  if (mix !== undefined && log !== undefined) throw usage('Give --mix or --log, not both.')
  if (log === undefined) return checkMix(mix ?? DEFAULT_MIX)
  const { mix: read, skipped } = await readLog(log)
  if (skipped > 0) terminal.note(`${skipped} lines of ${log} are no <id>;<FQMN> and were left out`)
  return read
}

async function openLog(file: string): Promise<WriteStream> {
  const stream = createWriteStream(file)
  await new Promise<void>((resolve, reject) => {
    stream.once('open', () => resolve())
    stream.once('error', (cause) => reject(usage(`The log ${file} cannot be written: ${cause.message}.`)))
  })
  return stream
}
