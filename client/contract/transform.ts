/**
 * The step that turns an author's file into a contract: it reads the exported functions off the syntax tree and makes wrappers
 * around them the entry of the program, so that the functions themselves are not exported. What it cannot wrap it reports as
 * a compiler error, at the place.
 */
import type * as assemblyscript from 'assemblyscript'
import { SCALAR_TYPES, SDK_VERSION, TYPE_NAMES, typeOf } from './abi.ts'
import type { ContractAbi, ContractFunction, ContractShape, ContractType, FunctionMode, ScalarType } from './abi.ts'
import { ClassReader } from './classes.ts'
import type { Classes } from './classes.ts'
import { authorsSources, FLAG, NAME, PARAMETER, refuse, SOURCE_KIND, takeDecorators, text } from './syntax.ts'
import type { Compiler } from './syntax.ts'
import { WRAPPERS_PATH, wrappers } from './wrappers.ts'
import type { WrappedFunction, WrappedParameter } from './wrappers.ts'

const MOST_FUNCTIONS = 256
const MOST_PARAMETERS = 32

const MODES = ['view', 'init', 'migrate', 'reply'] as const
const ONCE = ['init', 'migrate'] as const
/** What the mesh calls these with. */
const SIGNATURES: Readonly<Record<string, { readonly types: readonly ContractType[], readonly shown: string }>> = {
  migrate: { types: ['string'], shown: '(from: string): void' },
  reply: { types: ['string', 'i32', 'string'], shown: '(id: string, status: i32, body: string): void' },
}

export class ContractTransform {
  readonly #compiler: Compiler
  #texts: ReadonlyMap<string, string> = new Map()
  #functions: readonly ContractFunction[] = []
  #events: readonly ContractShape[] = []
  #records: readonly ContractShape[] = []

  constructor(compiler: Compiler) {
    this.#compiler = compiler
  }

  /** What was found; complete once compilation has succeeded. */
  get abi(): ContractAbi {
    const abi = { abi: 1, sdk: SDK_VERSION, functions: this.#functions, events: this.#events } as const
    return this.#records.length === 0 ? abi : { ...abi, records: this.#records }
  }

  /** The text of a file that was parsed, by the compiler's path. */
  textOf(path: string): string | undefined {
    return this.#texts.get(path)
  }

  /** Called by the compiler between parsing and compiling. */
  afterParse(parser: assemblyscript.Parser): void {
    this.#texts = new Map(parser.sources.map(({ normalizedPath, text: source }) => [normalizedPath, source]))
    const entry = authorsSources(parser).find(({ sourceKind }) => (sourceKind as number) === SOURCE_KIND.entry)
    if (entry === undefined) return
    const classes = new ClassReader(this.#compiler, parser).read()
    const functions = new EntryReader(this.#compiler, parser, classes).read(entry)
    this.#functions = functions.map(({ name, mode, params, returns }) => (
      { name, mode, params: params.map(({ literal: _, ...param }) => param), returns }))
    this.#events = classes.events
    this.#records = [...classes.records.values()].filter(({ name }) => functions.some(({ returns }) => elementOf(returns) === name))
    entry.sourceKind = SOURCE_KIND.user
    parser.parseFile(wrappers(entry.internalPath, functions), WRAPPERS_PATH, true)
  }
}

class EntryReader {
  readonly #compiler: Compiler
  readonly #parser: assemblyscript.Parser
  readonly #classes: Classes

  constructor(compiler: Compiler, parser: assemblyscript.Parser, classes: Classes) {
    this.#compiler = compiler
    this.#parser = parser
    this.#classes = classes
  }

  read(entry: assemblyscript.Source): WrappedFunction[] {
    const functions = entry.statements.flatMap((statement) => this.#exported(statement))
    const anything = entry.statements.some((statement) => this.#exports(statement))
    if (!anything) this.#refuse(entry, 'A contract exports at least one function')
    if (functions.length > MOST_FUNCTIONS) this.#refuse(entry, `A contract exports at most ${MOST_FUNCTIONS} functions`)
    for (const once of ONCE) {
      if (functions.filter(({ mode }) => mode === once).length > 1) this.#refuse(entry, `A contract has at most one @${once} function`)
    }
    return functions
  }

  #refuse(node: assemblyscript.Node, reason: string): void {
    refuse(this.#parser, node, reason)
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
    const mode = this.#mode(statement)
    const returns = this.#returns(text(returnType))
    if (returns === undefined) {
      this.#refuse(returnType, `The result of an exported function is void, ${TYPE_NAMES}, an @record or an array of one`)
      return []
    }
    this.#checkSignature(statement, mode, params.map(({ type }) => type), returns)
    return [{ name: name.text, mode, params, returns }]
  }

  #exports(statement: assemblyscript.Statement): boolean {
    const { DeclarationStatement, ExportDefaultStatement, ExportImportStatement, ExportStatement } = this.#compiler
    if ([ExportDefaultStatement, ExportImportStatement, ExportStatement].some((kind) => statement instanceof kind)) return true
    const declaration = statement instanceof this.#compiler.VariableStatement ? statement.declarations[0] : statement
    return declaration instanceof DeclarationStatement && ((declaration.flags as number) & FLAG.export) !== 0
  }

  #mode(declaration: assemblyscript.FunctionDeclaration): FunctionMode {
    const modes = takeDecorators(this.#compiler, declaration, MODES)
    if (modes.length > 1) this.#refuse(declaration.name, 'A function is @view, @init, @migrate or @reply, only one of them')
    return (modes[0]?.name ?? 'write') as FunctionMode
  }

  #returns(source: string): string | undefined {
    if (source === 'void') return source
    const element = /^Array<(.+)>$/.exec(source)?.[1] ?? /^(.+)\[\]$/.exec(source)?.[1]
    if (this.#classes.records.has(element ?? source)) return element === undefined ? source : `${element}[]`
    return typeOf(source)
  }

  /** What the mesh itself calls has to look as the mesh calls it. */
  #checkSignature({ name }: assemblyscript.FunctionDeclaration, mode: FunctionMode, types: readonly ContractType[], returns: string): void {
    const wanted = SIGNATURES[mode]
    if (mode === 'init' && returns !== 'void') this.#refuse(name, 'An @init function gives nothing: its result is void')
    if (wanted === undefined || (returns === 'void' && types.join() === wanted.types.join())) return
    this.#refuse(name, `An @${mode} function is declared as ${name.text}${wanted.shown}`)
  }

  #parameter(node: assemblyscript.ParameterNode): WrappedParameter[] {
    const { name: { text: name }, initializer } = node
    const type = typeOf(text(node.type))
    if (type === undefined) this.#refuse(node, `The type of a parameter of an exported function is ${TYPE_NAMES}`)
    if (!NAME.test(name)) this.#refuse(node, 'The name of a parameter has at most 64 letters, digits or _')
    if ((node.parameterKind as number) !== (initializer === null ? PARAMETER.required : PARAMETER.optional)) {
      this.#refuse(node, 'Give the parameter a default (`name: string = \'\'`) instead of `?` or `...`')
    }
    if (type === undefined) return []
    if (initializer === null) return [{ name, type, literal: undefined }]
    const value = this.#literal(initializer, type)
    if (value === undefined) {
      const reason = isScalar(type) && type !== 'bytes' ? `A default of type ${type} is a literal of that type` : `A parameter of type ${type} has no default`
      this.#refuse(initializer, reason)
      return []
    }
    return [{ name, type, default: value, literal: text(initializer) }]
  }

  /** The value of a literal as it stands in the ABI; `undefined` for anything else. */
  #literal(node: assemblyscript.Expression, type: ContractType): string | number | boolean | undefined {
    const literal = text(node)
    if (type === 'string') return node instanceof this.#compiler.StringLiteralExpression ? node.value : undefined
    if (type === 'bool') return literal === 'true' ? true : literal === 'false' ? false : undefined
    if (!isScalar(type) || type === 'bytes') return undefined
    const range = SCALAR_TYPES[type]
    if (!/^-?(?:0|[1-9][0-9]{0,19})$/.test(literal)) return undefined
    const value = BigInt(literal)
    if (value < range.lowest || value > range.highest) return undefined
    return Number.isSafeInteger(Number(value)) ? Number(value) : literal
  }
}

function elementOf(returns: string): string {
  return returns.replace(/\[\]$/, '')
}

function isScalar(type: ContractType): type is ScalarType {
  return Object.hasOwn(SCALAR_TYPES, type)
}
