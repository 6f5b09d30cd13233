/**
 * The step that turns an author's file into a contract: it reads the exported functions off the syntax tree, writes a
 * `call_<function>` wrapper for each (decode the arguments, call, encode the result) and makes the wrappers the entry of
 * the program, so that the functions themselves are not exported. It reports what it cannot wrap as compiler errors, at the place.
 *
 * The names in the wrappers are those of `contracts/sdk/arguments.ts` and `results.ts`.
 */
import type * as assemblyscript from 'assemblyscript'
import { SDK_VERSION } from './abi.ts'
import type { ContractAbi, ContractFunction, ContractParameter, ContractType } from './abi.ts'

/** The part of the compiler's API that is used, handed in because the compiler is loaded only when something is compiled. */
type Compiler = Pick<typeof assemblyscript,
  'DeclarationStatement' | 'ExportDefaultStatement' | 'ExportImportStatement' | 'ExportStatement' | 'FunctionDeclaration' | 'IdentifierExpression'
  | 'StringLiteralExpression' | 'VariableStatement'>

// Constant enums of the compiler, which cannot be imported: SourceKind, CommonFlags, ParameterKind and DiagnosticCode.
const SOURCE_KIND_USER = 0
const SOURCE_KIND_USER_ENTRY = 1
const FLAG_EXPORT = 2
const PARAMETER_REQUIRED = 0
const PARAMETER_OPTIONAL = 1
const USER_DEFINED_ERROR = 102

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/
const MODES = ['view', 'init'] as const
const WRAPPERS_PATH = '__cmesh_wrappers.ts'
const MOST_PARAMETERS = 32
const MOST_FUNCTIONS = 256

/** Suffix of the reader and the writer of each type, and the range of a number. */
const TYPES: ReadonlyMap<string, { readonly suffix: string, readonly range?: readonly [bigint, bigint] }> = new Map<ContractType, { suffix: string, range?: [bigint, bigint] }>([
  ['bool', { suffix: 'Bool' }],
  ['string', { suffix: 'String' }],
  ['i32', { suffix: 'I32', range: [-(2n ** 31n), 2n ** 31n - 1n] }],
  ['u32', { suffix: 'U32', range: [0n, 2n ** 32n - 1n] }],
  ['i64', { suffix: 'I64', range: [-(2n ** 63n), 2n ** 63n - 1n] }],
  ['u64', { suffix: 'U64', range: [0n, 2n ** 64n - 1n] }],
])
const TYPE_NAMES = [...TYPES.keys()].join(', ')

/** A parameter and the source text of its default. */
type Parameter = ContractParameter & { readonly literal: string | undefined }

export class ContractTransform {
  readonly #compiler: Compiler
  #functions: ContractFunction[] = []

  constructor(compiler: Compiler) {
    this.#compiler = compiler
  }

  /** What was found; complete once compilation has succeeded. */
  get abi(): ContractAbi {
    return { abi: 1, sdk: SDK_VERSION, functions: this.#functions, events: [] }
  }

  /** Called by the compiler between parsing and compiling. */
  afterParse(parser: assemblyscript.Parser): void {
    const entry = parser.sources.find((source) => (source.sourceKind as number) === SOURCE_KIND_USER_ENTRY && !source.normalizedPath.startsWith('~lib/'))
    if (entry === undefined) return
    const found = entry.statements.flatMap((statement) => this.#exported(parser, statement))
    this.#functions = found.map(({ name, mode, params, returns }) => (
      { name, mode, params: params.map(({ literal: _, ...param }) => param), returns }))
    if (found.length === 0) refuse(parser, entry.range, 'A contract exports at least one function')
    if (found.length > MOST_FUNCTIONS) refuse(parser, entry.range, `A contract exports at most ${String(MOST_FUNCTIONS)} functions`)
    if (found.filter(({ mode }) => mode === 'init').length > 1) refuse(parser, entry.range, 'A contract has at most one @init function')
    entry.sourceKind = SOURCE_KIND_USER
    const file = entry.internalPath.slice(entry.internalPath.lastIndexOf('/') + 1)
    parser.parseFile(wrappers(file, found), WRAPPERS_PATH, true)
  }

  /** The function that a statement exports, or what is wrong with it. */
  #exported(parser: assemblyscript.Parser, statement: assemblyscript.Statement): (Omit<ContractFunction, 'params'> & { params: Parameter[] })[] {
    const { FunctionDeclaration, DeclarationStatement, VariableStatement, ExportStatement, ExportDefaultStatement, ExportImportStatement } = this.#compiler
    const declaration = statement instanceof VariableStatement ? statement.declarations[0] : statement
    const exports = declaration instanceof DeclarationStatement && ((declaration.flags as number) & FLAG_EXPORT) !== 0
    const other = [ExportStatement, ExportDefaultStatement, ExportImportStatement].some((kind) => statement instanceof kind)
    if (!exports && !other) return []
    if (!(statement instanceof FunctionDeclaration)) {
      refuse(parser, statement.range, 'A contract exports functions, each declared as `export function`, and nothing else')
      return []
    }
    const name = statement.name.text
    const { parameters, returnType } = statement.signature
    if (!NAME.test(name)) refuse(parser, statement.name.range, 'The name of an exported function has at most 64 letters, digits or _')
    if (statement.typeParameters !== null) refuse(parser, statement.name.range, 'An exported function cannot be generic')
    if (parameters.length > MOST_PARAMETERS) refuse(parser, statement.name.range, `A function has at most ${String(MOST_PARAMETERS)} parameters`)
    const params = parameters.flatMap((parameter) => this.#parameter(parser, parameter))
    const returns = text(returnType)
    if (returns !== 'void' && !TYPES.has(returns)) refuse(parser, returnType.range, `The result of an exported function is void or one of ${TYPE_NAMES}`)
    return [{ name, mode: this.#mode(parser, statement), params, returns: returns as ContractType }]
  }

  /** Takes `@view` and `@init` off the declaration: the compiler does not know them. */
  #mode(parser: assemblyscript.Parser, declaration: assemblyscript.FunctionDeclaration): ContractFunction['mode'] {
    const decorators = declaration.decorators ?? []
    const word = ({ name }: assemblyscript.DecoratorNode) => MODES.find((mode) => name instanceof this.#compiler.IdentifierExpression && name.text === mode)
    const modes = decorators.flatMap((decorator) => word(decorator) ?? [])
    if (modes.length > 1) refuse(parser, declaration.name.range, 'A function is @view or @init, not both')
    const others = decorators.filter((decorator) => word(decorator) === undefined)
    declaration.decorators = others.length > 0 ? others : null
    return modes[0] ?? 'write'
  }

  #parameter(parser: assemblyscript.Parser, node: assemblyscript.ParameterNode): Parameter[] {
    const [name, type] = [node.name.text, text(node.type)]
    const known = TYPES.get(type)
    const plainKind = (node.parameterKind as number) === (node.initializer === null ? PARAMETER_REQUIRED : PARAMETER_OPTIONAL)
    if (known === undefined || !plainKind || !NAME.test(name)) {
      const reason = known === undefined ? `The type of a parameter of an exported function is one of ${TYPE_NAMES}`
        : NAME.test(name) ? 'Give the parameter a default (`name: string = \'\'`) instead of `?` or `...`' : 'The name of a parameter has at most 64 letters, digits or _'
      refuse(parser, node.range, reason)
      return []
    }
    const plain = { name, type: type as ContractType, literal: undefined }
    if (node.initializer === null) return [plain]
    const literal = text(node.initializer)
    const value = this.#literal(node.initializer, known.range)
    if (value === undefined) refuse(parser, node.initializer.range, `A default of type ${type} is a literal of that type`)
    return value === undefined ? [{ ...plain, literal }] : [{ ...plain, literal, default: value }]
  }

  #literal(node: assemblyscript.Expression, range: readonly [bigint, bigint] | undefined): string | number | boolean | undefined {
    if (node instanceof this.#compiler.StringLiteralExpression) return range === undefined ? node.value : undefined
    const literal = text(node)
    if (range === undefined) return literal === 'true' ? true : literal === 'false' ? false : undefined
    if (!/^-?(?:0|[1-9][0-9]{0,19})$/.test(literal)) return undefined
    const value = BigInt(literal)
    if (value < range[0] || value > range[1]) return undefined
    return Number.isSafeInteger(Number(value)) ? Number(value) : literal
  }
}

function text(node: assemblyscript.Node): string {
  return node.range.source.text.slice(node.range.start, node.range.end)
}

function refuse(parser: assemblyscript.Parser, range: assemblyscript.Range, reason: string): void {
  parser.error(USER_DEFINED_ERROR, range, reason)
}

/** The source of the wrappers. `abort` is imported so that the compiler's alias for it finds it. */
function wrappers(file: string, functions: readonly { readonly name: string, readonly params: readonly Parameter[], readonly returns: string }[]): string {
  const suffixes = [...TYPES.values()].map(({ suffix }) => suffix)
  const suffixOf = (type: string): string => TYPES.get(type)?.suffix ?? 'Void'
  return [
    `import * as contract from './${file}'`,
    `import { begin, end, more, ${suffixes.map((suffix) => `argument${suffix}`).join(', ')} } from 'cmesh/sdk/arguments'`,
    `import { resultVoid, ${suffixes.map((suffix) => `result${suffix}`).join(', ')} } from 'cmesh/sdk/results'`,
    'import { abort } from \'cmesh/sdk/errors\'',
    ...functions.flatMap(({ name, params, returns }) => {
      const call = `contract.${name}(${params.map((_, index) => `a${String(index)}`).join(', ')})`
      return [
        `export function call_${name}(): void {`,
        '  begin()',
        ...params.map((param, index) => {
          const read = `argument${suffixOf(param.type)}('${param.name}')`
          const variable = `a${String(index)}`
          return param.literal === undefined ? `  const ${variable} = ${read}` : `  let ${variable}: ${param.type} = ${param.literal}\n  if (more()) ${variable} = ${read}`
        }),
        `  end(${String(params.length)})`,
        returns === 'void' ? `  ${call}\n  resultVoid()` : `  result${suffixOf(returns)}(${call})`,
        '}',
      ]
    }),
  ].join('\n')
}
