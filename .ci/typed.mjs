/**
 * What `npm run types` and `npm run lint` check, of one program: the compiler reads and checks each file once, and lint asks it what it knows
 * by then, instead of a second compiler that would find all of it out again. Both are gone through, whatever the first of them finds.
 */
import path from 'node:path'
import { ESLint } from 'eslint'
import ts from 'typescript'
import { SOURCES, TESTS } from '../eslint.config.mjs'
import { Findings, root } from './check.mjs'

const findings = new Findings()
const program = programOf('test/tsconfig.json')
checkTypes()
await lint()
findings.conclude(`${program.getRootFileNames().length} files hold their types, and all lint`)

/** @param {string} file */
function programOf(file) {
  const host = { ...ts.sys, onUnRecoverableConfigFileDiagnostic: (/** @type {ts.Diagnostic} */ diagnostic) => { throw new Error(textOf([diagnostic])) } }
  const parsed = ts.getParsedCommandLineOfConfigFile(path.join(root, file), {}, host)
  if (parsed === undefined) throw new Error(`${file} cannot be read`)
  return ts.createProgram({ rootNames: parsed.fileNames, options: parsed.options, configFileParsingDiagnostics: parsed.errors })
}

/** All that `tsc --noEmit` says; it would leave out what comes later in this order where something is wrong before. */
function checkTypes() {
  const wrong = [
    ...program.getConfigFileParsingDiagnostics(), ...program.getOptionsDiagnostics(), ...program.getSyntacticDiagnostics(),
    ...program.getGlobalDiagnostics(), ...program.getSemanticDiagnostics(), ...program.getDeclarationDiagnostics(),
  ]
  if (wrong.length > 0) findings.add(textOf(ts.sortAndDeduplicateDiagnostics(wrong)))
}

async function lint() {
  const ofProgram = { files: [...SOURCES, ...TESTS], languageOptions: { parserOptions: { programs: [program] } } }
  const eslint = new ESLint({ cwd: root, overrideConfig: [ofProgram] })
  const results = await eslint.lintFiles(['.'])
  // A warning counts as an error, as with `--max-warnings 0`.
  if (!results.some(({ errorCount, warningCount }) => errorCount + warningCount > 0)) return
  findings.add(await (await eslint.loadFormatter('stylish')).format(results))
}

/** @param {readonly ts.Diagnostic[]} diagnostics */
function textOf(diagnostics) {
  return ts.formatDiagnostics(diagnostics, { getCanonicalFileName: (name) => name, getCurrentDirectory: () => root, getNewLine: () => '\n' })
}
