/** `cmesh events`: publishes, reads and follows channels. */
import type { Command } from 'commander'
import { CMeshError } from '../../../cmtp/errors.ts'
import { usage } from '../../options.ts'
import { examples, integerFrom, printResult, time, withClient, withMesh, type MeshOptions } from '../command.ts'
import { dataOf, printEvent } from '../event-lines.ts'
import { readInput } from '../input.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'
import { take } from './events-take.ts'

const SEQUENCE = integerFrom(1, Number.MAX_SAFE_INTEGER)

export function events(program: Command, terminal: Terminal): void {
  const group = program.command('events').description('publish, read and follow events')
    .addHelpText('after', examples(
      ['cmesh events publish news "it works"', 'say something'],
      ['cmesh events tail news', 'listen until Ctrl-C'],
      ['cmesh events read events.state.contracts.0x001.blah_blah', 'the newest event of a contract'],
    ))
  tail(group, terminal)
  publish(group, terminal)
  read(group, terminal)
  range(group, terminal)
  take(group, terminal)
  groups(group, terminal)
  removeGroup(group, terminal)
}

interface TailOptions extends MeshOptions {
  readonly count?: number
}

function tail(group: Command, terminal: Terminal): void {
  withMesh(group.command('tail').description('print events as they are published, until Ctrl-C'), 'print one JSON document per event')
    .argument('<channel>')
    .option('--count <n>', 'stop after so many events', integerFrom(1, 1_000_000_000))
    .addHelpText('after', examples(
      ['cmesh events tail news', 'until Ctrl-C'],
      ['cmesh events tail news --count 1 --json', 'wait for one event, as JSON'],
    ))
    .action((channel: string, options: TailOptions) => withClient(terminal, options, async (client) => {
      let left = options.count ?? Infinity
      let enough = (): void => undefined
      const done = new Promise<void>((resolve) => { enough = resolve })
      terminal.interrupted.addEventListener('abort', enough, { once: true })
      const subscription = await client.subscribe(channel, (event) => {
        if (left <= 0) return
        printEvent(terminal, options, event)
        if (--left <= 0) enough()
      }, { signal: terminal.interrupted })
      if (terminal.messagesAreSeen) terminal.note(terminal.styleNote('dim', `following ${channel}; Ctrl-C ends it`))
      await done
      await subscription.close()
      if (left > 0) throw new CMeshError('CMESH_CLIENT_ABORTED')
    }))
}

interface PublishOptions extends MeshOptions {
  readonly file?: string
}

function publish(group: Command, terminal: Terminal): void {
  withMesh(group.command('publish').description('publish an event'))
    .argument('<channel>')
    .argument('[payload]', 'text of the event')
    .option('--file <file>', 'payload from a file, - for standard input')
    .addHelpText('after', examples(
      ['cmesh events publish news "it works"', 'text'],
      ['date | cmesh events publish news --file -', 'from standard input'],
    ))
    .action(async (channel: string, payload: string | undefined, options: PublishOptions) => {
      const bytes = await payloadOf(payload, options.file)
      await withClient(terminal, options, async (client) => {
        const published = await client.publish(channel, bytes, { signal: terminal.interrupted })
        printResult(terminal, options, published, () => [`${published.channel} ${terminal.style('bold', `#${published.seq}`)}`])
      })
    })
}

function read(group: Command, terminal: Terminal): void {
  withMesh(group.command('read').description('print the newest event of a channel'))
    .argument('<channel>')
    .addHelpText('after', examples(
      ['cmesh events read news', 'the newest'],
      ['cmesh events read events.mined --json', 'as JSON'],
    ))
    .action((channel: string, options: MeshOptions) => withClient(terminal, options, async (client) => {
      printEvent(terminal, options, await client.latest(channel, { signal: terminal.interrupted }))
    }))
}

interface RangeOptions extends MeshOptions {
  readonly from?: number
  readonly to?: number
  readonly limit: number
}

function range(group: Command, terminal: Terminal): void {
  withMesh(group.command('range').description('print the events of a channel in order'))
    .argument('<channel>')
    .option('--from <seq>', 'first sequence (default: the oldest kept)', SEQUENCE)
    .option('--to <seq>', 'last sequence (default: the newest)', SEQUENCE)
    .option('--limit <n>', 'most events', integerFrom(1, 1_000), 100)
    .addHelpText('after', examples(
      ['cmesh events range news', 'the oldest 100'],
      ['cmesh events range news --from 10 --limit 5', 'five from sequence 10'],
    ))
    .action((channel: string, options: RangeOptions) => withClient(terminal, options, async (client) => {
      const { from, to, limit } = options
      const list = await client.range(channel, { from, to, limit }, { signal: terminal.interrupted })
      printResult(terminal, options, list, () => (list.length === 0 ? [] : table(
        list.map((event) => [String(event.seq), time(event.timeMs), terminal.foreign(dataOf(event))]),
        { boxes: terminal.resultsAreSeen, head: ['seq', 'time', 'data'], right: [0] },
      )))
    }))
}

function groups(group: Command, terminal: Terminal): void {
  withMesh(group.command('groups').description('list the groups of a channel'))
    .argument('<channel>')
    .addHelpText('after', examples(['cmesh events groups orders', 'who takes from it']))
    .action((channel: string, options: MeshOptions) => withClient(terminal, options, async (client) => {
      const list = await client.groups(channel, { signal: terminal.interrupted })
      printResult(terminal, options, list, () => (list.length === 0 ? [] : table(
        list.map((each) => [each.group, String(each.waiting), String(each.inHand), String(each.attempts), `${each.ackWaitMs} ms`]),
        { boxes: terminal.resultsAreSeen, head: ['group', 'waiting', 'in hand', 'attempts', 'ack wait'], right: [1, 2, 3, 4] },
      )))
    }))
}

function removeGroup(group: Command, terminal: Terminal): void {
  withMesh(group.command('remove-group').description('end a group, with its position'))
    .argument('<channel>')
    .argument('<group>')
    .addHelpText('after', examples(['cmesh events remove-group orders packers', 'its next member begins anew']))
    .action((channel: string, name: string, options: MeshOptions) => withClient(terminal, options, async (client) => {
      if (!await client.removeGroup(channel, name, { signal: terminal.interrupted })) throw new CMeshError('CMESH_EVENTS_NO_GROUP', { channel, group: name })
      printResult(terminal, options, { channel, group: name }, () => [`${channel} ${name} removed`])
    }))
}

async function payloadOf(payload: string | undefined, file: string | undefined): Promise<Uint8Array | string> {
  if (payload !== undefined && file === undefined) return payload
  if (payload !== undefined || file === undefined) throw usage('Give a payload or --file.')
  return await readInput(file)
}
