/**
 * Takes the place of the contract compiler's packages where jest runs (`moduleNameMapper`): the same packages, loaded once by the process that
 * runs the tests. Jest would load their 15 MB anew for every test file, each time as slow as at first. Of the parts, those that are used.
 */
import { constants, runInThisContext } from 'node:vm'

/** @type {(name: string) => Promise<any>} */
const load = runInThisContext('(name) => import(name)', {
  filename: import.meta.filename, importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
})

/** `assemblyscript/asc` */
export const { createMemoryStream, main, version } = await load('assemblyscript/asc')

/** `assemblyscript` */
export const {
  ClassDeclaration, DeclarationStatement, ExportDefaultStatement, ExportImportStatement, ExportStatement,
  FieldDeclaration, FunctionDeclaration, IdentifierExpression, Parser, StringLiteralExpression, VariableStatement,
} = await load('assemblyscript')

/** `assemblyscript/binaryen` */
const { default: binaryen } = await load('assemblyscript/binaryen')
export default binaryen
