/**
 * The classes of an author that are `@event` or `@record`: reads their fields off the syntax tree and writes the methods that the SDK
 * calls on them (`contracts/sdk/events.ts`, `values.ts`, `writer.ts`), as members of the class.
 */
import type * as assemblyscript from 'assemblyscript'
import { sourceOf, TYPE_NAMES, typeOf } from './abi.ts'
import type { ContractField, ContractShape } from './abi.ts'
import { authorsSources, FLAG, NAME, refuse, takeDecorators, text } from './syntax.ts'
import type { Compiler } from './syntax.ts'

const DECORATORS = ['event', 'record'] as const
/** What a node takes as the topic of an event. */
const TOPIC = /^[A-Za-z0-9._~^-]{1,64}$/
const MOST_EVENTS = 256
const MOST_FIELDS = 32

export interface Classes {
  /** Each with its topic as its name. */
  readonly events: readonly ContractShape[]
  /** By the name of the class. */
  readonly records: ReadonlyMap<string, ContractShape>
}

export class ClassReader {
  readonly #compiler: Compiler
  readonly #parser: assemblyscript.Parser

  constructor(compiler: Compiler, parser: assemblyscript.Parser) {
    this.#compiler = compiler
    this.#parser = parser
  }

  read(): Classes {
    const events: ContractShape[] = []
    const records = new Map<string, ContractShape>()
    for (const { statements } of authorsSources(this.#parser)) {
      for (const statement of statements) {
        if (!(statement instanceof this.#compiler.ClassDeclaration)) continue
        const { name } = statement
        const marks = takeDecorators(this.#compiler, statement, DECORATORS)
        const [mark] = marks
        if (mark === undefined) continue
        if (marks.length > 1) refuse(this.#parser, name, 'A class is @event or @record, and only once')
        const fields = this.#fields(statement)
        if (mark.name === 'event') {
          const event = { name: this.#topic(statement, mark.node), fields }
          if (events.some((other) => other.name === event.name)) refuse(this.#parser, name, `Another event has the topic ${event.name} already`)
          events.push(event)
          this.#add(statement, [json(fields), `emit(): void { __cmesh_emit(${JSON.stringify(event.name)}, this) }`])
        } else {
          if (records.has(name.text)) refuse(this.#parser, name, `Another record is called ${name.text} already`)
          records.set(name.text, { name: name.text, fields })
          this.#add(statement, [json(fields), ...storing(fields)])
        }
      }
    }
    if (events.length > MOST_EVENTS) refuse(this.#parser, this.#parser.sources[0] as assemblyscript.Source, `A contract has at most ${MOST_EVENTS} events`)
    return { events, records }
  }

  #fields(declaration: assemblyscript.ClassDeclaration): ContractField[] {
    const { name, typeParameters, extendsType } = declaration
    if (typeParameters !== null) refuse(this.#parser, name, 'An @event or @record cannot be generic')
    if (extendsType !== null) refuse(this.#parser, extendsType, 'An @event or @record has all its fields itself and extends nothing')
    const nodes = declaration.members.filter((member): member is assemblyscript.FieldDeclaration => (
      member instanceof this.#compiler.FieldDeclaration && ((member.flags as number) & FLAG.static) === 0))
    const fields = nodes.flatMap((node) => {
      const type = node.type === null ? undefined : typeOf(text(node.type))
      if (!NAME.test(node.name.text)) refuse(this.#parser, node, 'The name of a field has at most 64 letters, digits or _')
      if (type !== undefined) return [{ name: node.name.text, type }]
      refuse(this.#parser, node, `A field of an @event or @record is of type ${TYPE_NAMES}`)
      return []
    })
    if (nodes.length === 0) refuse(this.#parser, name, 'An @event or @record has at least one field')
    if (nodes.length > MOST_FIELDS) refuse(this.#parser, name, `An @event or @record has at most ${MOST_FIELDS} fields`)
    return fields
  }

  #topic({ name }: assemblyscript.ClassDeclaration, { args }: assemblyscript.DecoratorNode): string {
    if (args === null || args.length === 0) {
      if (!TOPIC.test(name.text)) refuse(this.#parser, name, 'The name of an event has at most 64 letters, digits or _')
      return name.text
    }
    const [given] = args
    const topic = given instanceof this.#compiler.StringLiteralExpression && args.length === 1 ? given.value : ''
    if (!TOPIC.test(topic)) refuse(this.#parser, given ?? name, 'The topic of an event is a string of 1 to 64 letters, digits or . _ - ~ ^')
    return topic
  }

  /** Parses members as they would stand in the class. */
  #add(declaration: assemblyscript.ClassDeclaration, members: readonly string[]): void {
    const parser = new this.#compiler.Parser()
    parser.parseFile(`class ${declaration.name.text} {\n${members.join('\n')}\n}`, declaration.range.source.normalizedPath, false)
    const [parsed] = parser.sources[0]?.statements ?? []
    if (parsed instanceof this.#compiler.ClassDeclaration) declaration.members.push(...parsed.members)
  }
}

/** Writes the object: `{"from":…,"to":…}`. */
function json(fields: readonly ContractField[]): string {
  const steps = fields.map(({ name }, index) => `w.raw('${index === 0 ? '{' : ','}"${name}":'); w.value(this.${name});`)
  return `__json<W>(w: W): void { ${steps.join(' ')} w.byte(0x7d) }`
}

/** Writes the fields one after the other, and reads them back into an object that was made without its constructor. */
function storing(fields: readonly ContractField[]): string[] {
  return [
    `__save<W>(w: W): void { ${fields.map(({ name }) => `w.field(this.${name})`).join('; ')} }`,
    `__load<R>(r: R): void { ${fields.map(({ name, type }) => `this.${name} = r.field<${sourceOf(type)}>()`).join('; ')} }`,
  ]
}
