/**
 * The step that turns an author's file into a contract: it reads the exported functions off the syntax tree and makes wrappers
 * around them the entry of the program, so that the functions themselves are not exported. What it cannot wrap it reports as
 * a compiler error, at the place.
 */
import type * as assemblyscript from 'assemblyscript'
import { CONTRACT_TYPES, SDK_VERSION } from './abi.ts'
import type { ContractAbi, ContractFunction, ContractType } from './abi.ts'
import { WRAPPERS_PATH, wrappers } from './wrappers.ts'
import type { WrappedFunction, WrappedParameter } from './wrappers.ts'

/** What is used of the compiler; handed in, because the compiler is loaded only when something is compiled. */
type Compiler = Pick<typeof assemblyscript,
  'DeclarationStatement' | 'ExportDefaultStatement' | 'ExportImportStatement' | 'ExportStatement' | 'FunctionDeclaration'
  | 'IdentifierExpression' | 'StringLiteralExpression' | 'VariableStatement'>

// Constant enums of the compiler, which cannot be imported: SourceKind, CommonFlags, ParameterKind and DiagnosticCode.
const SOURCE_KIND_USER = 0
const SOURCE_KIND_USER_ENTRY = 1
const FLAG_EXPORT = 2
const PARAMETER_REQUIRED = 0
const PARAMETER_OPTIONAL = 1
const USER_DEFINED_ERROR = 102

/** What a node takes as the name of a function or a parameter, and how many of each. */
const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/
const MOST_FUNCTIONS = 256
const MOST_PARAMETERS = 32

const MODES = ['view', 'init'] as const
const TYPE_NAMES = Object.keys(CONTRACT_TYPES).join(', ')

export class ContractTransform {
  readonly #compiler: Compiler
  #functions: readonly ContractFunction[] = []

  constructor(compiler: Compiler) {
    this.#compiler = compiler
  }

  /** What was found; complete once compilation has succeeded. */
  get abi(): ContractAbi {
    return { abi: 1, sdk: SDK_VERSION, functions: this.#functions, events: [] }
  }

  /** Called by the compiler between parsing and compiling. */
  afterParse(parser: assemblyscript.Parser): void {
    const entry = parser.sources.find(({ sourceKind, normalizedPath }) => (
      (sourceKind as number) === SOURCE_KIND_USER_ENTRY && !normalizedPath.startsWith('~lib/')))
    if (entry === undefined) return
    const functions = new EntryReader(this.#compiler, parser).read(entry)
    this.#functions = functions.map(({ name, mode, params, returns }) => (
      { name, mode, params: params.map(({ literal: _, ...param }) => param), returns }))
    entry.sourceKind = SOURCE_KIND_USER
    parser.parseFile(wrappers(entry.internalPath, functions), WRAPPERS_PATH, true)
  }
}

class EntryReader {
  readonly #compiler: Compiler
  readonly #parser: assemblyscript.Parser

  constructor(compiler: Compiler, parser: assemblyscript.Parser) {
    this.#compiler = compiler
    this.#parser = parser
  }

  read(entry: assemblyscript.Source): WrappedFunction[] {
    const functions = entry.statements.flatMap((statement) => this.#exported(statement))
    const anything = entry.statements.some((statement) => this.#exports(statement))
    if (!anything) this.#refuse(entry, 'A contract exports at least one function')
    if (functions.length > MOST_FUNCTIONS) this.#refuse(entry, `A contract exports at most ${MOST_FUNCTIONS} functions`)
    const inits = functions.filter(({ mode }) => mode === 'init')
    if (inits.length > 1) this.#refuse(entry, 'A contract has at most one @init function')
    return functions
  }

  #refuse(node: assemblyscript.Node, reason: string): void {
    this.#parser.error(USER_DEFINED_ERROR, node.range, reason)
  }

  /** The function that a statement exports, if it does. */
  #exported(statement: assemblyscript.Statement): WrappedFunction[] {
    if (!this.#exports(statement)) return []
    if (!(statement instanceof this.#compiler.FunctionDeclaration)) {
      this.#refuse(statement, 'A contract exports functions, each declared as `export function`, and nothing else')
      return []
    }
    const { name, typeParameters, signature: { parameters, returnType } } = statement
    if (!NAME.test(name.text)) this.#refuse(name, 'The name of an exported function has at most 64 letters, digits or _')
    if (typeParameters !== null) this.#refuse(name, 'An exported function cannot be generic')
    if (parameters.length > MOST_PARAMETERS) this.#refuse(name, `A function has at most ${MOST_PARAMETERS} parameters`)
    const params = parameters.flatMap((parameter) => this.#parameter(parameter))
    const returns = text(returnType)
    if (returns !== 'void' && !isType(returns)) {
      this.#refuse(returnType, `The result of an exported function is void or one of ${TYPE_NAMES}`)
      return []
    }
    return [{ name: name.text, mode: this.#mode(statement), params, returns }]
  }

  #exports(statement: assemblyscript.Statement): boolean {
    const { DeclarationStatement, ExportDefaultStatement, ExportImportStatement, ExportStatement } = this.#compiler
    if ([ExportDefaultStatement, ExportImportStatement, ExportStatement].some((kind) => statement instanceof kind)) return true
    const declaration = statement instanceof this.#compiler.VariableStatement ? statement.declarations[0] : statement
    return declaration instanceof DeclarationStatement && ((declaration.flags as number) & FLAG_EXPORT) !== 0
  }

  /** Takes `@view` and `@init` off the declaration: the compiler does not know them. */
  #mode(declaration: assemblyscript.FunctionDeclaration): ContractFunction['mode'] {
    const decorators = declaration.decorators ?? []
    const modeOf = ({ name }: assemblyscript.DecoratorNode): 'view' | 'init' | undefined =>
      MODES.find((mode) => name instanceof this.#compiler.IdentifierExpression && name.text === mode)
    const modes = decorators.flatMap((decorator) => modeOf(decorator) ?? [])
    if (modes.length > 1) this.#refuse(declaration.name, 'A function is @view or @init, not both')
    const others = decorators.filter((decorator) => modeOf(decorator) === undefined)
    declaration.decorators = others.length > 0 ? others : null
    return modes[0] ?? 'write'
  }

  #parameter(node: assemblyscript.ParameterNode): WrappedParameter[] {
    const { name: { text: name }, initializer } = node
    const type = text(node.type)
    if (!isType(type)) this.#refuse(node, `The type of a parameter of an exported function is one of ${TYPE_NAMES}`)
    if (!NAME.test(name)) this.#refuse(node, 'The name of a parameter has at most 64 letters, digits or _')
    if ((node.parameterKind as number) !== (initializer === null ? PARAMETER_REQUIRED : PARAMETER_OPTIONAL)) {
      this.#refuse(node, 'Give the parameter a default (`name: string = \'\'`) instead of `?` or `...`')
    }
    if (!isType(type)) return []
    if (initializer === null) return [{ name, type, literal: undefined }]
    const value = this.#literal(initializer, type)
    if (value === undefined) {
      this.#refuse(initializer, `A default of type ${type} is a literal of that type`)
      return []
    }
    return [{ name, type, default: value, literal: text(initializer) }]
  }

  /** The value of a literal as it stands in the ABI; `undefined` for anything else. */
  #literal(node: assemblyscript.Expression, type: ContractType): string | number | boolean | undefined {
    const literal = text(node)
    if (type === 'string') return node instanceof this.#compiler.StringLiteralExpression ? node.value : undefined
    if (type === 'bool') return literal === 'true' ? true : literal === 'false' ? false : undefined
    if (!/^-?(?:0|[1-9][0-9]{0,19})$/.test(literal)) return undefined
    const { lowest, highest } = CONTRACT_TYPES[type]
    const value = BigInt(literal)
    if (value < lowest || value > highest) return undefined
    return Number.isSafeInteger(Number(value)) ? Number(value) : literal
  }
}

function isType(name: string): name is ContractType {
  return Object.hasOwn(CONTRACT_TYPES, name)
}

function text(node: assemblyscript.Node): string {
  return node.range.source.text.slice(node.range.start, node.range.end)
}
