/**
 * What the transform and the reader of classes need of the compiler's syntax tree. The compiler is handed in, because it is loaded only
 * when something is compiled; of its constant enums, which cannot be imported, the values stand here.
 */
import type * as assemblyscript from 'assemblyscript'

export type Compiler = Pick<typeof assemblyscript,
  'ClassDeclaration' | 'DeclarationStatement' | 'ExportDefaultStatement' | 'ExportImportStatement' | 'ExportStatement'
  | 'FieldDeclaration' | 'FunctionDeclaration' | 'IdentifierExpression' | 'Parser' | 'StringLiteralExpression' | 'VariableStatement'>

export const SOURCE_KIND = { user: 0, entry: 1 } as const
export const FLAG = { export: 2, static: 32, generic: 1 } as const
export const PARAMETER = { required: 0, optional: 1 } as const
const USER_DEFINED_ERROR = 102

/** What a node takes as the name of a function, a parameter or a field. */
export const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/

export function text(node: assemblyscript.Node): string {
  return node.range.source.text.slice(node.range.start, node.range.end)
}

/** Reports what the compiler would not, as an error of its own at the place. */
export function refuse(parser: assemblyscript.Parser, node: assemblyscript.Node, reason: string): void {
  parser.error(USER_DEFINED_ERROR, node.range, reason)
}

/** Files of the author's, the entry among them. */
export function authorsSources(parser: assemblyscript.Parser): assemblyscript.Source[] {
  return parser.sources.filter(({ sourceKind, normalizedPath }) => (sourceKind as number) <= SOURCE_KIND.entry && !normalizedPath.startsWith('~lib/'))
}

/**
 * Takes those decorators off a declaration whose names are listed: they are ours, and the compiler does not know them. Gives what it
 * took.
 */
export function takeDecorators(
  compiler: Compiler, declaration: assemblyscript.DeclarationStatement, names: readonly string[],
): { readonly name: string, readonly node: assemblyscript.DecoratorNode }[] {
  const nameOf = ({ name }: assemblyscript.DecoratorNode): string | undefined => (
    name instanceof compiler.IdentifierExpression ? names.find((known) => known === name.text) : undefined)
  const decorators = declaration.decorators ?? []
  const others = decorators.filter((node) => nameOf(node) === undefined)
  declaration.decorators = others.length > 0 ? others : null
  return decorators.flatMap((node) => {
    const name = nameOf(node)
    return name === undefined ? [] : [{ name, node }]
  })
}
