/** `cmesh receipt redact`: a receipt for somebody who need not see all of it. */
import { InvalidArgumentError, Option, type Command } from 'commander'
import { decodeReceipt, redactReceipt } from '../../../cmtp/receipt/receipt.ts'
import { usage } from '../../options.ts'
import { examples, fields, printResult, withJson, type JsonOption } from '../command.ts'
import { readInput } from '../input.ts'
import { writeOutput } from '../output.ts'
import type { Terminal } from '../terminal.ts'

interface RedactOptions extends JsonOption {
  readonly layer?: readonly number[]
  readonly allBut?: readonly number[]
  readonly out: string
}

export function redact(command: Command, terminal: Terminal): void {
  withJson(command.command('redact').description('keep layers of a receipt back: their hashes stand in their place, and it verifies as before'))
    .argument('<file>', 'the receipt, - for standard input')
    .option('--layer <n>', 'a layer to keep back, by its number in `cmesh receipt show`; can be given again', numbers)
    .addOption(new Option('--all-but <n>', 'a layer to show, and no other; can be given again').argParser(numbers).conflicts('layer'))
    .requiredOption('-o, --out <file>', 'where to write it, a new file')
    .addHelpText('after', examples(
      ['cmesh receipt redact hello.receipt --layer 0 --out shown.receipt', 'without what the first hop did'],
      ['cmesh receipt redact hello.receipt --all-but 1 --out shown.receipt', 'with what one hop did'],
    ))
    .action(async (file: string, options: RedactOptions) => {
      const bytes = await readInput(file)
      const { layers, evidence } = decodeReceipt(bytes)
      const named = options.layer ?? options.allBut
      if (named === undefined) throw usage('Say what to keep back: --layer N for one layer, or --all-but N for all others.')
      const wrong = named.find((at) => at >= layers.length)
      if (wrong !== undefined) throw usage(`There is no layer ${wrong}: the receipt has ${layers.length}, numbered from 0 to ${layers.length - 1}.`)
      const redacted = redactReceipt(bytes, (at) => named.includes(at) === (options.layer !== undefined))
      const after = decodeReceipt(redacted)
      const keptBack = after.layers.flatMap(({ shown }, at) => shown === undefined ? [at] : [])
      const evidenceLeftOut = evidence !== undefined && after.evidence === undefined
      const path = await writeOutput(options.out, redacted)
      printResult(terminal, options, { file: path, bytes: redacted.length, layers: layers.length, keptBack, evidenceLeftOut }, () => fields(terminal, [
        ['receipt', `${path} (${redacted.length} bytes)`],
        ['kept back', keptBack.length === 0 ? 'nothing' : `layer ${keptBack.join(', ')} of ${layers.length}`],
        ...(evidenceLeftOut ? [['left out', 'the members\' claims, which are of a layer that is kept back'] as const] : []),
      ]))
    })
}

function numbers(text: string, before: readonly number[] = []): readonly number[] {
  if (!/^\d{1,2}$/.test(text)) throw new InvalidArgumentError('It must be the number of a layer, from 0.')
  return [...before, Number(text)]
}
