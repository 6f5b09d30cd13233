/**
 * Reads Prometheus' text exposition format 0.0.4 strictly: every line must be a HELP, a TYPE or a sample of the family that
 * was typed last, every family must come once, and no sample twice. Throws on anything else.
 */

export interface MetricSample {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface MetricFamily {
  readonly type: string
  readonly help: string
  readonly samples: readonly MetricSample[]
}

export type MetricFamilies = ReadonlyMap<string, MetricFamily>

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*'
const HELP = new RegExp(`^# HELP (${NAME}) (.*)$`)
const TYPE = new RegExp(`^# TYPE (${NAME}) (counter|gauge|histogram|summary|untyped)$`)
const SAMPLE = new RegExp(`^(${NAME})(?:\\{(.*)\\})? (\\S+)$`, 's')
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,|$)/
const VALUE = /^(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]Inf|NaN)$/

export function metricsOf(text: string): MetricFamilies {
  if (!text.endsWith('\n')) throw new Error('the last line does not end')
  const families = new Map<string, { type: string, help: string, samples: MetricSample[] }>()
  let current = ''
  let help: { readonly name: string, readonly text: string } | undefined
  for (const line of text.slice(0, -1).split('\n')) {
    const [, helpName, helpText = ''] = HELP.exec(line) ?? []
    const [, typeName, type = ''] = TYPE.exec(line) ?? []
    const [, sampleName, labels = '', value = ''] = SAMPLE.exec(line) ?? []
    if (helpName !== undefined) {
      help = { name: helpName, text: helpText }
    } else if (typeName !== undefined) {
      if (families.has(typeName)) throw new Error(`${typeName} comes twice`)
      families.set(typeName, { type, help: help?.name === typeName ? help.text : '', samples: [] })
      current = typeName
    } else if (sampleName !== undefined && sampleName === current && VALUE.test(value)) {
      const sample = { labels: labelsOf(labels), value: Number(value.replace('Inf', 'Infinity')) }
      const known = families.get(current)?.samples
      const key = JSON.stringify(Object.entries(sample.labels).sort())
      if (known?.some(other => JSON.stringify(Object.entries(other.labels).sort()) === key)) throw new Error(`the sample ${line} comes twice`)
      known?.push(sample)
    } else {
      throw new Error(`not Prometheus text: ${line}`)
    }
  }
  return families
}

/** The value of the sample that has these labels; 0 when there is none. Throws for a family that there is not. */
export function metric(families: MetricFamilies, name: string, labels: Readonly<Record<string, string>> = {}): number {
  const family = families.get(name)
  if (family === undefined) throw new Error(`there is no metric ${name}`)
  return family.samples.find(sample => Object.entries(labels).every(([label, value]) => sample.labels[label] === value))?.value ?? 0
}

function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {}
  for (let rest = text; rest !== '';) {
    const [whole, name, value] = LABEL.exec(rest) ?? []
    if (whole === undefined || name === undefined || value === undefined) throw new Error(`not a list of labels: ${text}`)
    labels[name] = value.replace(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped))
    rest = rest.slice(whole.length)
  }
  return labels
}
