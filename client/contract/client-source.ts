/**
 * Writes the source of a typed client for one contract, in TypeScript for programs that use the SDK: a class with a method for each
 * function that may be called from outside, and its events. Numbers of 64 bits are `bigint`, bytes are `Uint8Array`. What it writes
 * needs nothing but the types of `cmesh`; the same ABI gives the same text.
 */
import type { ContractAbi, ContractFunction, ContractParameter, ContractShape, ContractType } from './abi.ts'

export interface ClientSourceOptions {
  /** What the contract is called: the class is `<Name>Contract`. */
  readonly name: string
}

/** Names that the source uses itself, or that the language keeps. */
const TAKEN = new Set([
  'Array', 'BigInt', 'Boolean', 'Buffer', 'Number', 'Promise', 'Record', 'String', 'Uint8Array', 'bytes', 'cmesh', 'hex', 'list', 'options', 'undefined',
  'arguments', 'await', 'break', 'case', 'catch', 'class', 'const', 'continue', 'debugger', 'default', 'delete', 'do', 'else', 'enum', 'eval', 'export',
  'extends', 'false', 'finally', 'for', 'function', 'if', 'implements', 'import', 'in', 'instanceof', 'interface', 'let', 'new', 'null', 'package', 'private',
  'protected', 'public', 'return', 'static', 'super', 'switch', 'this', 'throw', 'true', 'try', 'typeof', 'var', 'void', 'while', 'with', 'yield',
])
/** Members of the class itself. */
const MEMBERS = new Set(['constructor', 'address', 'on'])
/** Called at deployment, at replacement and by the mesh, never by a client. */
const OUTSIDE = ['view', 'write'] as const

export function generateClient(abi: ContractAbi, { name }: ClientSourceOptions): string {
  const className = `${pascal(name)}Contract`
  const records = (abi.records ?? []).map((record) => [record, free(pascal(record.name), 'Record')] as const)
  const types = new Types(new Map(records.map(([record, type]) => [record.name, type])))
  const functions = abi.functions.filter(({ mode }) => OUTSIDE.some((outside) => outside === mode))
  const events = named(abi.events, new Set([className, ...records.map(([, type]) => type)]))
  const parts = [
    ...records.map(([record, type]) => types.shape(record, type)),
    ...events.map(({ event, type }) => types.shape(event, type)),
    ...(events.length === 0 ? [] : [eventMap(className, events)]),
    contractClass(className, functions, types, events.length > 0),
    ...records.map(([record, type]) => types.reader(record, type)),
    ...(events.length === 0 ? [] : [eventReaders(className, events, types)]),
  ].join('\n\n')
  const conversions = Object.entries(CONVERSIONS).flatMap(([used, source]) => (parts.includes(`${used}(`) ? [source] : []))
  return `${[head(name), parts, ...conversions].join('\n\n')}\n`
}

interface NamedEvent {
  readonly event: ContractShape
  readonly type: string
}

/** Each event with a type of its own name: topics may be written alike. */
function named(events: readonly ContractShape[], seen: Set<string>): NamedEvent[] {
  return events.map((event) => {
    const base = `${pascal(event.name)}Event`
    let type = base
    for (let count = 2; seen.has(type); count++) type = `${base}${count}`
    seen.add(type)
    return { event, type }
  })
}

function head(name: string): string {
  const shown = JSON.stringify(name).slice(1, -1).replaceAll('*/', '* /')
  return `/** Typed client of the contract ${shown}. Written by \`cmesh contract client\` from its ABI: change the contract, not this. */
import type * as cmesh from 'cmesh'`
}

class Types {
  readonly #records: ReadonlyMap<string, string>

  constructor(records: ReadonlyMap<string, string>) {
    this.#records = records
  }

  /** What a value of the type is once it is read. */
  read(type: string): string {
    const [element, isList] = split(type)
    const plain = PLAIN[element] ?? this.#records.get(element) ?? 'unknown'
    return isList ? `readonly ${plain}[]` : plain
  }

  /** What a caller may give for it. */
  given(type: ContractType): string {
    const [element, isList] = split(type)
    const plain = element === 'u64' || element === 'i64' ? 'bigint | number' : PLAIN[element] ?? 'unknown'
    if (!isList) return plain
    return plain.includes(' ') ? `readonly (${plain})[]` : `readonly ${plain}[]`
  }

  /** An expression that reads a JSON value. */
  decode(type: string, value: string): string {
    const [element, isList] = split(type)
    const one = this.#one(element)
    if (!isList) return one(value)
    return `list(${value}).map((each) => ${one('each')})`
  }

  /** An expression for a JSON value of what was given. */
  encode(type: ContractType, value: string): string {
    const [element, isList] = split(type)
    const one = element === 'u64' || element === 'i64' ? (each: string) => `String(${each})` : element === 'bytes' ? (each: string) => `hex(${each})` : undefined
    if (one === undefined) return value
    return isList ? `${value}.map((each) => ${one('each')})` : one(value)
  }

  shape({ fields }: ContractShape, name: string): string {
    return [`export interface ${name} {`, ...fields.map((field) => `  readonly ${key(field.name)}: ${this.read(field.type)}`), '}'].join('\n')
  }

  reader({ fields }: ContractShape, name: string): string {
    return `function read${name}(value: unknown): ${name} {\n  const fields = value as Record<string, unknown>\n  return ${this.object(fields)}\n}`
  }

  object(fields: ContractShape['fields']): string {
    return `{ ${fields.map(({ name, type }) => `${key(name)}: ${this.decode(type, `fields[${quoted(name)}]`)}`).join(', ')} }`
  }

  #one(element: string): (value: string) => string {
    if (element === 'u64' || element === 'i64') return (value) => `BigInt(${value} as string | number)`
    if (element === 'bytes') return (value) => `bytes(${value})`
    const record = this.#records.get(element)
    if (record !== undefined) return (value) => `read${record}(${value})`
    return PLAIN[element] === undefined ? (value) => value : (value) => `${value} as ${PLAIN[element] ?? 'unknown'}`
  }
}

const PLAIN: Readonly<Record<string, string>> = {
  bool: 'boolean', i32: 'number', u32: 'number', i64: 'bigint', u64: 'bigint', string: 'string', bytes: 'Uint8Array', void: 'void',
}

function contractClass(name: string, functions: readonly ContractFunction[], types: Types, hasEvents: boolean): string {
  const members = [
    `  readonly #client: Pick<cmesh.MeshClient, 'call' | 'subscribe'>
  /** Of the contract. */
  readonly address: string

  /** \`address\`: 0x and 3 or 64 hex digits. */
  constructor(client: Pick<cmesh.MeshClient, 'call' | 'subscribe'>, address: string) {
    this.#client = client
    this.address = address
  }`,
    ...functions.map((fn) => method(fn, types)),
    ...(hasEvents ? [follow(name)] : []),
    ...(functions.length > 0 ? [`  async #call(verb: string, name: string, args: readonly unknown[], options: cmesh.CallOptions): Promise<unknown> {
    return (await this.#client.call(\`\${verb}:\${this.address}:\${name}\`, { ...options, args })).json()
  }`] : []),
  ]
  return `export class ${name} {\n${members.join('\n\n')}\n}`
}

function method({ name, mode, params, returns }: ContractFunction, types: Types): string {
  const given = params.map((param) => [free(param.name, '_'), param] as const)
  const listed = given.map(([variable, param]) => `${variable}: ${types.given(param.type)}${fallback(param)}`)
  const args = `[${given.map(([variable, { type }]) => types.encode(type, variable)).join(', ')}]`
  const call = `await this.#call('${mode === 'view' ? '0xS' : '0xSW'}', ${quoted(name)}, ${args}, options)`
  const body = returns === 'void' ? `    ${call}` : `    return ${types.decode(returns, `(${call})`)}`
  return [
    `  /** ${mode === 'view' ? 'Reads' : 'Changes state'}. */`,
    `  async ${MEMBERS.has(name) ? `${name}_` : name}(${[...listed, 'options: cmesh.CallOptions = {}'].join(', ')}): Promise<${types.read(returns)}> {`,
    body,
    '  }',
  ].join('\n')
}

/** What stands for a parameter that is left out: a literal of its type. */
function fallback({ type, default: value }: ContractParameter): string {
  if (value === undefined) return ''
  if (type === 'u64' || type === 'i64') return ` = ${String(value)}n`
  return ` = ${typeof value === 'string' ? quoted(value) : String(value)}`
}

function follow(name: string): string {
  const events = `${name}Events`
  return `  /** Hands each event of a topic to \`handler\` from now on; \`at\` says which it is. */
  on<T extends keyof ${events}>(
    topic: T, handler: (event: ${events}[T], at: cmesh.ChannelEvent) => void | Promise<void>, options: cmesh.VerbOptions = {},
  ): Promise<cmesh.Subscription> {
    const channel = \`events.state.contracts.\${this.address}.\${topic}\`
    return this.#client.subscribe(channel, (at) => handler(EVENTS[topic](JSON.parse(String(at.data))), at), options)
  }`
}

function eventMap(className: string, events: readonly NamedEvent[]): string {
  return [`export interface ${className}Events {`, ...events.map(({ event, type }) => `  readonly ${quoted(event.name)}: ${type}`), '}'].join('\n')
}

function eventReaders(className: string, events: readonly NamedEvent[], types: Types): string {
  return [
    `const EVENTS: { readonly [T in keyof ${className}Events]: (fields: Record<string, unknown>) => ${className}Events[T] } = {`,
    ...events.map(({ event }) => `  ${quoted(event.name)}: (fields) => (${types.object(event.fields)}),`),
    '}',
  ].join('\n')
}

/** What the source needs of its own, where it does: bytes cross as hex digits. */
const CONVERSIONS: Readonly<Record<string, string>> = {
  hex: `function hex(value: Uint8Array): string {
  return Array.from(value, (byte) => byte.toString(16).padStart(2, '0')).join('')
}`,
  bytes: `function bytes(value: unknown): Uint8Array {
  return Uint8Array.from(String(value).match(/../g) ?? [], (digits) => Number.parseInt(digits, 16))
}`,
  list: `function list(value: unknown): readonly unknown[] {
  return value as readonly unknown[]
}`,
}

function split(type: string): readonly [element: string, isList: boolean] {
  return type.endsWith('[]') ? [type.slice(0, -2), true] : [type, false]
}

function pascal(name: string): string {
  const words = name.split(/[^A-Za-z0-9]+/).filter((word) => word !== '')
  const joined = words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join('')
  return /^[A-Za-z]/.test(joined) ? joined : `C${joined}`
}

function free(name: string, suffix: string): string {
  return TAKEN.has(name) ? `${name}${suffix}` : name
}

/** As the name of a field. */
function key(name: string): string {
  return name === '__proto__' ? '[\'__proto__\']' : name
}

function quoted(text: string): string {
  return `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll('\'', '\\\'')}'`
}
