/**
 * What there is to say of a contract's source: each with its place, and where the cause is known what to write instead. They come from
 * the compiler, from what the language lacks (`habits.ts`) and from what compiles but is rarely meant (`warnings.ts`).
 */

export interface ContractDiagnostic {
  readonly severity: 'error' | 'warning'
  /** Stable: the compiler's code, such as `TS2304`; `contract` for what a contract may not look like; or the name of a rule. */
  readonly code: string
  /** One sentence without its full stop, or the compiler's own words. */
  readonly message: string
  /** What to do instead; empty when nothing is known. */
  readonly hint: string
  /** Relative to the entry file's directory. Empty when it has no place. */
  readonly file: string
  /** From 1, both. */
  readonly line: number
  readonly column: number
  /** Characters that it is about, within the line. */
  readonly length: number
  /** The line. */
  readonly excerpt: string
}

/** What a rule found, before its place is made out. */
export interface Finding {
  readonly severity: ContractDiagnostic['severity']
  readonly code: string
  readonly message: string
  readonly hint: string
  /** Range in the file's text. */
  readonly start: number
  readonly end: number
}

/** What the compiler reports, as far as it matters here. */
export interface CompilerMessage {
  readonly code: number
  readonly category: number
  readonly message: string
  readonly range: { readonly start: number, readonly end: number, readonly source: { readonly normalizedPath: string } } | null
}

/** Of the compiler's categories: pedantic 0, info 1, warning 2, error 3. */
const ERROR = 3
const WARNING = 2
const USER_DEFINED = 'User-defined: '
/** Below this a code is the compiler's own, from there on one of TypeScript's. */
const FIRST_TYPESCRIPT_CODE = 1_000

/** `undefined` for what is neither error nor warning. `textOf`: of a file, by the compiler's path. */
export function fromCompiler(
  { code, category, message, range }: CompilerMessage, textOf: (path: string) => string | undefined,
): ContractDiagnostic | undefined {
  if (category !== ERROR && category !== WARNING) return undefined
  const own = message.startsWith(USER_DEFINED)
  const finding = {
    severity: category === ERROR ? 'error' : 'warning',
    code: own ? 'contract' : `${code < FIRST_TYPESCRIPT_CODE ? 'AS' : 'TS'}${code}`,
    message: own ? message.slice(USER_DEFINED.length) : message,
    hint: '',
  } as const
  if (range === null) return { ...finding, file: '', line: 0, column: 0, length: 0, excerpt: '' }
  const file = range.source.normalizedPath
  return located({ ...finding, start: range.start, end: range.end }, file, textOf(file) ?? '')
}

export function located({ start, end, ...finding }: Finding, file: string, text: string): ContractDiagnostic {
  const from = text.lastIndexOf('\n', start - 1) + 1
  const newline = text.indexOf('\n', start)
  const to = newline < 0 ? text.length : newline
  const line = text.slice(0, from).split('\n').length
  return {
    ...finding, file, line, column: start - from + 1, length: Math.max(1, Math.min(end, to) - start), excerpt: text.slice(from, to).trimEnd(),
  }
}

/** As text for people: what, the line with the place under it, where, and what to do. */
export function formatDiagnostics(diagnostics: readonly ContractDiagnostic[]): string {
  return diagnostics.map(format).join('\n\n')
}

function format({ severity, code, message, hint, file, line, column, length, excerpt }: ContractDiagnostic): string {
  const head = `${severity.toUpperCase()} ${code}: ${message}${/[.!?]$/.test(message) ? '' : '.'}`
  const advice = hint === '' ? [] : [`    ${hint}`]
  if (file === '') return [head, ...advice].join('\n')
  const number = String(line).padStart(3)
  const gutter = ' '.repeat(number.length)
  const shown = excerpt.replaceAll('\t', ' ')
  return [
    head, `${number} │ ${shown}`, `${gutter} │ ${' '.repeat(column - 1)}${'~'.repeat(length)}`, `${gutter} └─ in ${file}(${line},${column})`, ...advice,
  ].join('\n')
}
