/** The record of a name, for a person. */
import type { NameRecord } from '../names.ts'
import { fields, time } from './command.ts'
import type { Terminal } from './terminal.ts'

export function recordLines(terminal: Terminal, record: NameRecord): string[] {
  return fields(terminal, [
    ['name', terminal.style('bold', record.name)],
    ['target', record.target],
    ['owner', record.owner],
    ...(record.holder === undefined ? [] : [['rotated to', record.holder] as const]),
    ['sequence', String(record.sequence)],
    ['registered', time(record.registeredAtMs)],
    ['expires', time(record.expiresAtMs)],
  ])
}
