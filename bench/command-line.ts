/** What the command line asks for. Pure: it neither runs nor prints anything. */
import { parseArgs } from 'node:util'
import type { Bench } from './harness.ts'

export interface Asked {
  readonly benches: readonly Bench[]
  readonly smoke: boolean
  readonly json: string | undefined
}

/** Text to print, and the status to end with, instead of running anything. */
export interface Told {
  readonly text: string
  readonly status: 0 | 2
}

const FLAGS = {
  wide: { type: 'boolean' }, batch: { type: 'boolean' }, smoke: { type: 'boolean' }, list: { type: 'boolean' }, help: { type: 'boolean' },
  json: { type: 'string' },
} as const

/** The flags that choose another form of `routing`. */
const FORMS = ['wide', 'batch'] as const

export function readCommandLine(args: readonly string[], known: readonly Bench[]): Asked | Told {
  let parsed
  try {
    parsed = parseArgs({ args: [...args], options: FLAGS, allowPositionals: true })
  } catch (error) {
    return usage((error as Error).message, known)
  }
  const { values, positionals } = parsed
  if (values.help === true) return { text: helpText(known), status: 0 }
  if (values.list === true) return { text: `${known.map(({ name }) => name).join('\n')}\n`, status: 0 }

  const forms = FORMS.filter(form => values[form])
  if (forms.length > 0 && !positionals.includes('routing')) return usage(`--${forms[0] ?? ''} is a form of routing`, known)
  const names = positionals.flatMap(name => (name === 'routing' && forms.length > 0 ? forms.map(form => `routing --${form}`) : [name]))
  const benches: Bench[] = []
  for (const name of names) {
    const bench = known.find(each => each.name === name)
    if (bench === undefined) return usage(`there is no benchmark ${name}`, known)
    if (!benches.includes(bench)) benches.push(bench)
  }
  const smoke = values.smoke === true
  if (benches.length === 0 && !smoke) return { text: helpText(known), status: 0 }
  return { benches: benches.length === 0 ? known : benches, smoke, json: values.json }
}

function usage(reason: string, known: readonly Bench[]): Told {
  return { text: `bench: ${reason}\nKnown: ${known.map(({ name }) => name).join(', ')}\n`, status: 2 }
}

export function helpText(known: readonly Bench[]): string {
  const width = Math.max(0, ...known.map(({ name }) => name.length))
  return `Usage: npm run bench -- <name>… [--json FILE] [--smoke]

Measures this machine, each figure beside a baseline of the same run.

${known.map(({ name, what }) => `  ${name.padEnd(width)}  ${what}`).join('\n')}

  --json FILE  also write the figures as JSON
  --smoke      small: shows that it runs, measures nothing; without a name, every benchmark
  --list       the names alone

Peers of a comparison (Moleculer, Hyperbee, @ethereumjs/evm) are installed into bench/peers at their first use.
Ends with 0 also when a goal is missed, with 1 when a benchmark fails, with 2 for a wrong command line.
`
}
