/** `cmesh dlq`: looks at dead letters and settles them. */
import type { Command } from 'commander'
import { CMeshError } from '../../../cmtp/errors.ts'
import type { DeadLetter, LetterOutline } from '../../dead-letters.ts'
import { examples, fields, integerFrom, printResult, time, withClient, withMesh, type MeshOptions } from '../command.ts'
import { EXIT, Reported } from '../exit-codes.ts'
import { printFailure } from '../failure.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'

export function dlq(program: Command, terminal: Terminal): void {
  const group = program.command('dlq').description('look at what failed for good, and settle it')
    .addHelpText('after', examples(
      ['cmesh dlq ls', 'what failed, the oldest first'],
      ['cmesh dlq show 4f0c…', 'all of one'],
      ['cmesh dlq replay 4f0c…', 'try it once more'],
    ))
  list(group, terminal)
  show(group, terminal)
  settle(group, terminal, 'replay', 'give an event to its group once more, or make a call again', (client, id) => client.replay(id), 'replayed')
  settle(group, terminal, 'drop', 'remove a dead letter', (client, id) => client.drop(id), 'dropped')
}

interface ListOptions extends MeshOptions {
  readonly from?: number
  readonly limit: number
}

function list(group: Command, terminal: Terminal): void {
  withMesh(group.command('ls').description('list the dead letters that you may see'))
    .option('--from <place>', 'first place (default: the oldest kept)', integerFrom(1, Number.MAX_SAFE_INTEGER))
    .option('--limit <n>', 'most letters', integerFrom(1, 1_000), 100)
    .addHelpText('after', examples(['cmesh dlq ls', 'the oldest 100'], ['cmesh dlq ls --json', 'as JSON']))
    .action((options: ListOptions) => withClient(terminal, options, async (client) => {
      const { from, limit } = options
      const page = await client.dlq.list({ from, limit }, { signal: terminal.interrupted })
      printResult(terminal, options, page, () => (page.letters.length === 0 ? [] : table(
        page.letters.map((letter) =>
          [letter.id, time(letter.timeMs), terminal.foreign(whatOf(letter)), String(letter.attempts), terminal.foreign(letter.error.code)]),
        { boxes: terminal.resultsAreSeen, head: ['id', 'time', 'what', 'tries', 'error'], right: [3] },
      )))
    }))
}

function show(group: Command, terminal: Terminal): void {
  withMesh(group.command('show').description('show all of a dead letter'))
    .argument('<id>')
    .addHelpText('after', examples(['cmesh dlq show 4f0c…', 'for reading'], ['cmesh dlq show 4f0c… --json', 'as JSON']))
    .action((id: string, options: MeshOptions) => withClient(terminal, options, async (client) => {
      const letter = await client.dlq.show(id, { signal: terminal.interrupted })
      printResult(terminal, options, letter, () => shown(terminal, letter))
    }))
}

function settle(
  group: Command, terminal: Terminal, verb: 'replay' | 'drop', description: string,
  act: (dlq: { replay(id: string): Promise<boolean>, drop(id: string): Promise<boolean> }, id: string) => Promise<boolean>, done: string,
): void {
  withMesh(group.command(verb).description(description), 'print one JSON document per letter')
    .argument('<id...>')
    .addHelpText('after', examples([`cmesh dlq ${verb} 4f0c…`, 'one'], [`cmesh dlq ${verb} 4f0c… 77aa…`, 'several']))
    .action((ids: readonly string[], options: MeshOptions) => withClient(terminal, options, async (client) => {
      let missing = 0
      for (const id of ids) {
        if (await act(client.dlq, id)) {
          printResult(terminal, options, { id, [done]: true }, () => [`${id} ${done}`])
          continue
        }
        // The others are settled all the same.
        missing++
        printFailure(terminal, new CMeshError('CMESH_EVENTS_NO_LETTER', { id }), options.json === true)
      }
      if (missing > 0) throw new Reported(EXIT.refused)
    }))
}

function shown(terminal: Terminal, letter: DeadLetter): string[] {
  const { id, timeMs, attempts, error } = letter
  const data = letter.kind === 'event' ? letter.data : letter.body
  const lines = fields(terminal, [
    ['id', id], ['what', terminal.foreign(whatOf(letter))], ['time', time(timeMs)], ['tries', String(attempts)],
    ['error', terminal.foreign(`${error.code}: ${error.message}`)],
    ...(letter.kind === 'call' ? [['caller', letter.did], ['due', time(letter.atMs)]] as const : []),
    ['data', terminal.foreign(typeof data === 'string' ? data : `base64 ${data.base64}`)],
  ])
  if (letter.kind === 'event' || letter.layers.length === 0) return lines
  const rows = letter.layers.map(({ hop, fqmn, decision, status, durationUs }) => [hop, fqmn, decision, String(status), `${durationUs} µs`])
  return [...lines, ...table(rows, { boxes: terminal.resultsAreSeen, head: ['hop', 'address', 'decision', 'status', 'took'], right: [3, 4] })]
}

function whatOf(letter: LetterOutline): string {
  return letter.kind === 'event' ? `event ${letter.channel} #${letter.seq} of ${letter.group}` : `call ${letter.fqmn}`
}
