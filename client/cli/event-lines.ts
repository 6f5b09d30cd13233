/** An event of a channel, for a person or as JSON. */
import type { ChannelEvent } from '../subscription.ts'
import { printResult, time, type JsonOption } from './command.ts'
import type { Terminal } from './terminal.ts'

export function printEvent(terminal: Terminal, options: JsonOption, event: ChannelEvent): void {
  printResult(terminal, options, event, () => [`${terminal.style('bold', `#${event.seq}`)} ${terminal.style('dim', time(event.timeMs))} ${terminal.foreign(dataOf(event))}`])
}

export function dataOf({ data }: ChannelEvent): string {
  return typeof data === 'string' ? data : `base64 ${data.base64}`
}
