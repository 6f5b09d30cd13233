/** `cmesh contract check`: whether a contract compiles, and whether a mesh would take it; if not, where and why. */
import { extname } from 'node:path'
import type { Command } from 'commander'
import { CMeshError } from '../../../../cmtp/errors.ts'
import { lintContract } from '../../../contract/compile.ts'
import { formatDiagnostics, type ContractDiagnostic } from '../../../contract/diagnostics.ts'
import { examples, withJson, type JsonOption } from '../../command.ts'
import { codeOf, ofCompiled, type ContractCode } from '../../contract/code.ts'
import type { ModuleReport } from '../../contract/kit-process.ts'
import { findProject } from '../../contract/project.ts'
import { kilobytes, reportOf } from '../../contract/report.ts'
import { EXIT, Reported } from '../../exit-codes.ts'
import { failureDocument, printError } from '../../failure.ts'
import { withProgress } from '../../progress.ts'
import type { Terminal } from '../../terminal.ts'

export function check(group: Command, terminal: Terminal): void {
  withJson(group.command('check').description('compile a contract and check it as a mesh does when it is deployed'))
    .argument('[path]', 'a project\'s directory, an AssemblyScript file, a .wasm module or a .cmpk package', '.')
    .addHelpText('after', examples(
      ['cmesh contract check', 'the contract in this directory'],
      ['cmesh contract check token.wasm', 'a module from elsewhere'],
    ))
    .addHelpText('after', '\nIt says what is wrong with file and line, or function and byte, and what to do about it. Exit code 1 when something is; warnings are none.')
    .action(async (path: string, options: JsonOption) => {
      const { name, diagnostics, code } = await linted(terminal, path)
      const report = code === undefined ? undefined : await judged(terminal, code)
      const refused = report instanceof CMeshError ? report : undefined
      const ok = report !== undefined && refused === undefined
      if (options.json === true) {
        terminal.printJson({ name, ok, diagnostics, ...(refused !== undefined && failureDocument(refused)), ...(ok && { report }) })
      } else {
        if (diagnostics.length > 0) terminal.note(formatDiagnostics(diagnostics))
        if (report !== undefined && !(report instanceof CMeshError)) terminal.print(verdict(terminal, name, report))
      }
      if (refused !== undefined) printError(terminal, refused)
      if (!ok) throw new Reported(EXIT.refused)
    })
}

interface Linted {
  readonly name: string
  readonly diagnostics: readonly ContractDiagnostic[]
  /** Absent when the source does not compile. */
  readonly code: ContractCode | undefined
}

async function linted(terminal: Terminal, path: string): Promise<Linted> {
  if (['.wasm', '.cmpk'].includes(extname(path))) {
    const code = await codeOf(terminal, path)
    return { name: code.manifest.name, diagnostics: [], code }
  }
  const project = await findProject(path)
  const { diagnostics, contract } = await withProgress(terminal, `compiling ${project.name}`, () => lintContract(project.entry))
  return { name: project.name, diagnostics, code: contract === undefined ? undefined : ofCompiled(project, contract) }
}

/** The engine's report, or why a mesh would not take the module. */
async function judged(terminal: Terminal, code: ContractCode): Promise<ModuleReport | CMeshError> {
  try {
    return await reportOf(terminal, 'check', code)
  } catch (error) {
    if (error instanceof CMeshError && error.code.startsWith('CMESH_DEPLOY_')) return error
    throw error
  }
}

function verdict(terminal: Terminal, name: string, { bytes, meteredBytes, functions, imports, abi }: ModuleReport): string {
  return `${terminal.style('green', 'ok')} ${terminal.style('bold', name)}: ${kilobytes(bytes)}, ${kilobytes(meteredBytes)} when metered, `
    + `${abi.functions.length} functions to call, ${functions} in all, ${imports.length} of the host's used`
}
