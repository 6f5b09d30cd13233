/** What a dry run came to, for a person: each call in a line, and the first difference side by side. */
import type { DryOutcome, DryReplacement } from '../../deployment.ts'
import { grouped } from '../../grouped.ts'
import { fields } from '../command.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'

export function dryRunLines(terminal: Terminal, { version, codeHash, deployGas, migrate, calls, firstDifference }: DryReplacement): string[] {
  const verdict = migrate !== null && migrate.status >= 400 ? terminal.style('red', 'would be refused')
    : firstDifference === null ? terminal.style('green', 'would replace') : terminal.style('yellow', 'would replace, and differ')
  return [
    `${verdict}: version ${version}`,
    ...fields(terminal, [
      ['code hash', codeHash],
      ['gas', `${grouped(deployGas)} for its bytes`],
      ['migrate', migrate === null ? 'there is none' : outcomeText(terminal, migrate)],
    ]),
    ...(calls.length === 0 ? [] : table(calls.map(({ function: name, args, same, before, after }) => [
      terminal.foreign(`${name}(${args.map((arg) => JSON.stringify(arg)).join(', ')})`), same ? 'same' : terminal.style('yellow', 'differs'), grouped(before.gas), grouped(after.gas),
    ]), { boxes: terminal.resultsAreSeen, head: ['call', 'ends', 'gas now', 'gas then'], right: [2, 3] })),
    ...(firstDifference === null ? [] : differenceLines(terminal, firstDifference)),
  ]
}

function differenceLines(terminal: Terminal, { call, function: name, part, before, after }: NonNullable<DryReplacement['firstDifference']>): string[] {
  return [
    `first difference: ${part} of call ${call + 1}, ${name}`,
    ...fields(terminal, [['now', shown(terminal, before)], ['then', shown(terminal, after)]]),
  ]
}

/** One outcome in a line. */
export function outcomeText(terminal: Terminal, { status, gas, output, writes, events }: DryOutcome): string {
  if (status >= 400) return `${terminal.style('red', 'fails')}: ${shown(terminal, (output as { readonly message?: unknown }).message ?? output)}`
  return `${grouped(gas)} gas, ${writes.length} writes, ${events.length} events`
}

function shown(terminal: Terminal, value: unknown): string {
  return terminal.foreign(typeof value === 'string' ? value : JSON.stringify(value))
}
