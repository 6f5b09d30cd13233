/**
 * Puts together what is to be said of a contract's source: the compiler's messages in plain words, what explains them, and warnings.
 * An explanation takes the place of the compiler's error in its line, which is often only what the parser stumbled over next.
 */
import { fromCompiler, located } from './diagnostics.ts'
import type { CompilerMessage, ContractDiagnostic, Finding } from './diagnostics.ts'
import { habits, inPlainWords } from './habits.ts'
import type { Sources } from './sources.ts'
import { warnings } from './warnings.ts'

export interface Compilation {
  readonly messages: readonly CompilerMessage[]
  /** What came out; `undefined` when nothing did. */
  readonly module: Uint8Array | undefined
  readonly sources: Sources
  /** Of any file, the compiler's own library included, by the compiler's path. */
  readonly textOf: (path: string) => string | undefined
  /** What the compiler gave as its reason when nothing came out. */
  readonly failure: string
}

/** In the order of the files and of their lines. */
export function diagnose({ messages, module, sources, textOf, failure }: Compilation): ContractDiagnostic[] {
  const compiler = messages.flatMap((message) => fromCompiler(message, textOf) ?? []).map(inPlainWords)
  const foreign = module === undefined ? [] : foreignImports(module)
  const failed = module === undefined || foreign.length > 0
  const explained = failed ? inFiles(sources, habits) : []
  const plain = [...explained, ...compiler.filter(isPlain)]
  const unexplained = compiler.filter((said) => said.severity === 'warning' || said.code === 'contract' || !(isPlain(said) ? explained : plain).some(covers(said)))
  const all = [...explained, ...unexplained, ...inFiles(sources, warnings)]
  if (foreign.length > 0 && explained.length === 0) all.push(...foreign)
  if (failed && !all.some(({ severity }) => severity === 'error')) all.push(bare('compiler', failure === '' ? 'The compiler failed' : failure))
  return all.sort((a, b) => a.file < b.file ? -1 : a.file > b.file ? 1 : a.line - b.line || a.column - b.column)
}

/** In other words than the compiler's own. */
function isPlain({ code, severity }: ContractDiagnostic): boolean {
  return severity === 'error' && !/^(?:AS|TS)[0-9]+$/.test(code)
}

/** Whether the explanation is of the same line. */
function covers(said: ContractDiagnostic): (explanation: ContractDiagnostic) => boolean {
  return ({ file, line }) => file === said.file && line === said.line
}

function inFiles(sources: Sources, rule: (text: string) => Finding[]): ContractDiagnostic[] {
  return [...sources.authors].flatMap(([file, text]) => rule(text).map((finding) => located(finding, file, text)))
}

/** Functions that the module asks for and no node gives. */
function foreignImports(module: Uint8Array): ContractDiagnostic[] {
  const imports = WebAssembly.Module.imports(new WebAssembly.Module(module))
  return imports.filter((asked) => asked.module !== 'cmesh').map(({ module: from, name }) => (
    bare('outside', `The contract uses ${from}.${name}, which no node gives`, 'A contract reaches nothing but what cmesh/sdk exports.')))
}

/** What has no place. */
function bare(code: string, message: string, hint = ''): ContractDiagnostic {
  return { severity: 'error', code, message, hint, file: '', line: 0, column: 0, length: 0, excerpt: '' }
}
