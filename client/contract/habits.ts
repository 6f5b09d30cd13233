/**
 * What authors know from TypeScript and AssemblyScript lacks, in plain words and with what to write instead. These explain: they are
 * said only when the compiler refused the source, or when the module asks for what no node gives.
 */
import type { ContractDiagnostic, Finding } from './diagnostics.ts'
import { tokenize } from './tokens.ts'
import type { Token } from './tokens.ts'

interface Habit {
  readonly code: string
  readonly message: string
  readonly hint: string
  /** Whether it stands at `index`; `text` gives a token's text by its distance from there. */
  readonly at: (token: Token, text: (distance: number) => string) => boolean
}

const word = (...words: readonly string[]): Habit['at'] => (token, text) => token.kind === 'word' && words.includes(token.text) && text(-1) !== '.'
const sign = (wanted: string): Habit['at'] => (token) => token.kind === 'sign' && token.text === wanted
/** A name of an object, used: `console.log`. */
const object = (...names: readonly string[]): Habit['at'] => (token, text) => word(...names)(token, text) && text(1) === '.'
const both = (first: Habit['at'], second: Habit['at']): Habit['at'] => (token, text) => first(token, text) && second(token, text)

const TIME = 'A contract has no clock of its own: ctx.time() is the log time in ms, the same on every replica'
const REPLICAS = 'A contract runs on every replica and reaches nothing but the mesh'

export const HABITS: readonly Habit[] = [
  {
    code: 'exceptions', message: 'The language has no exceptions to catch: try, catch and finally do not exist',
    hint: 'A revert ends the call and undoes it. What may fail without that gives a Result: call, read, parse, member, unhex.',
    at: both(word('try'), (_token, text) => text(1) === '{'),
  },
  {
    code: 'async', message: 'A contract runs to its end at once: async, await and promises do not exist',
    hint: 'call and read give their Result at once; the answer to a send comes to an @reply function.',
    at: (token, text) => word('await', 'Promise')(token, text) || (word('async')(token, text) && ['function', '('].includes(text(1))),
  },
  {
    code: 'generators', message: 'Generators do not exist', hint: 'Give an array, or a page at a time.',
    at: (token, text) => word('yield')(token, text) || (word('function')(token, text) && text(1) === '*'),
  },
  {
    code: 'for-of', message: 'for … of does not exist',
    hint: 'Count: for (let i = 0; i < list.length; i++). Of a Map take keys() or values(), which are arrays; of a SortedMap range().entries(limit).',
    at: (token, text) => word('of')(token, text) && ['const', 'let', 'var'].includes(text(-2)),
  },
  {
    code: 'for-in', message: 'for … in does not exist', hint: 'Count: for (let i = 0; i < list.length; i++).',
    at: (token, text) => word('in')(token, text) && ['const', 'let', 'var'].includes(text(-2)),
  },
  {
    code: 'destructuring', message: 'Taking arrays and objects apart in a declaration does not exist', hint: 'Name each: const first = pair[0].',
    at: (token, text) => word('const', 'let', 'var')(token, text) && ['[', '{'].includes(text(1)),
  },
  { code: 'spread', message: 'Spread and rest do not exist', hint: 'Join arrays with concat; give each argument by itself.', at: sign('...') },
  {
    code: 'optional-chaining', message: 'Optional chaining does not exist', hint: 'Ask first: if (value !== null) … value.field.', at: sign('?.'),
  },
  {
    code: 'nullish', message: '?? does not exist', hint: 'Write value !== null ? value : fallback; of a cell or a map take getOr(fallback).',
    at: (token) => token.kind === 'sign' && token.text.startsWith('??'),
  },
  {
    code: 'any', message: 'There is no type any or unknown: each value has one type, known when it is compiled',
    hint: 'Name the type, or make the function generic: function first<T>(list: T[]): T.',
    at: both(word('any', 'unknown', 'object'), (_token, text) => [':', 'as', '<', '|'].includes(text(-1))),
  },
  {
    code: 'undefined', message: 'There is no undefined', hint: 'Give the variable a value of its type; null exists for types `T | null` of classes.', at: word('undefined'),
  },
  { code: 'bigint', message: 'There are no bigint literals', hint: 'u64 and i64 hold whole numbers of 64 bits: write 1 instead of 1n.', at: ({ kind, text }) => kind === 'number' && text.endsWith('n') },
  { code: 'private-names', message: 'Names with # do not exist', hint: 'Write private.', at: ({ kind, text }) => kind === 'word' && text.startsWith('#') },
  {
    code: 'regex', message: 'There are no regular expressions', hint: 'Look at the text with indexOf, includes, startsWith, split or charCodeAt.',
    at: (token, text) => token.kind === 'regex' || word('RegExp')(token, text),
  },
  { code: 'json', message: 'There is no JSON object', hint: 'parse<T>(text) and member<T>(text, name) read JSON; results, events and args() write it.', at: object('JSON') },
  { code: 'date', message: TIME, hint: 'Write ctx.time().', at: object('Date', 'performance') },
  {
    code: 'random', message: 'Math.random would differ from replica to replica', hint: 'crypto.random(below) and crypto.seed() give what is the same on all of them.',
    at: both(object('Math'), (_token, text) => text(2) === 'random'),
  },
  {
    code: 'random', message: 'There is no such source of random numbers', hint: 'crypto.random(below) and crypto.seed() give what is the same on every replica.',
    at: both(object('crypto'), (_token, text) => ['getRandomValues', 'randomUUID', 'subtle', 'randomBytes'].includes(text(2))),
  },
  {
    code: 'console', message: 'A contract has nowhere to print to', hint: 'Emit an event, or revert with what you want to see; tests can look at the state.',
    at: (token, text) => object('console')(token, text) || (word('trace')(token, text) && text(1) === '('),
  },
  { code: 'timers', message: 'There are no timers: a contract runs only when it is called', hint: 'Keep a deadline and compare it with ctx.time() when somebody calls.', at: word('setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask') },
  { code: 'outside', message: `${REPLICAS}: there is no fetch`, hint: 'send(fqmn, body, reply, gas) asks another address after the block.', at: word('fetch', 'XMLHttpRequest', 'WebSocket') },
  { code: 'outside', message: `${REPLICAS}: there is no process and no Node`, hint: 'What a contract has to know comes as an argument or lies in its state.', at: object('process', 'Buffer', 'globalThis', 'window') },
  {
    code: 'outside', message: `${REPLICAS}: modules of Node cannot be imported`, hint: 'Import from cmesh/sdk and from files beside this one.',
    at: (token, text) => token.kind === 'string' && text(-1) === 'from' && /^.(?:node:|(?:fs|path|crypto|http|https|os|util|child_process|url)(?:\/|.$))/.test(token.text),
  },
  { code: 'eval', message: 'Code cannot be made while a contract runs', hint: 'Write a function.', at: both(word('eval', 'Function'), (_token, text) => text(1) === '(') },
]

/** Explanations of what a file holds, in the order of the text, the same once in a line. */
export function habits(text: string): Finding[] {
  const tokens = tokenize(text)
  const found: Finding[] = []
  for (const [index, token] of tokens.entries()) {
    const near = (distance: number): string => tokens[index + distance]?.text ?? ''
    const habit = HABITS.find(({ at }) => at(token, near))
    if (habit === undefined) continue
    const { code, message, hint } = habit
    const before = found.findLast((finding) => finding.code === code)
    if (before !== undefined && !text.slice(before.start, token.at).includes('\n')) continue
    found.push({ severity: 'error', code, message, hint, start: token.at, end: token.at + token.text.length })
  }
  return found
}

/** What the compiler says where no habit is seen in the text. The first that fits. */
const WORDS: readonly { readonly says: RegExp, readonly code: string, readonly message: string, readonly hint: string }[] = [
  {
    says: /^Not implemented: Closures/, code: 'closures', message: 'A function cannot use a variable of the function around it',
    hint: 'Hand the value in as a parameter, loop instead of map or filter, or keep the value in a top-level variable.',
  },
  {
    says: /^Not implemented: union types/, code: 'unions', message: 'A value has one type: unions other than `T | null` of a class do not exist',
    hint: 'Choose one type, use an enum or a constant for a set of names, or a class with a field that says which it is.',
  },
  {
    says: /^Not implemented: Iterators/, code: 'for-of', message: 'for … of does not exist', hint: 'Count: for (let i = 0; i < list.length; i++).',
  },
  {
    says: /^Type '<object>' is not assignable|^Not implemented: Interface hidden classes/, code: 'object-literals',
    message: 'An object literal needs a class to be an object of', hint: 'Declare a class with these fields and make it with new, or name it: const a: Point = { x: 1 }.',
  },
  {
    says: /^Property '(?:keys|values|forEach|entries|size|length)' does not exist on type '~lib\/cmesh\/sdk\/map\/StateMap/, code: 'listing',
    message: 'A StateMap cannot be listed', hint: 'Make it a SortedMap: range().keys(limit), values(limit) and entries(limit) give a page of it.',
  },
  {
    says: /^Type expected/, code: 'types', message: 'A type is missing: parameters and results of functions are always typed',
    hint: 'Write it: function add(a: u64, b: u64): u64. Tuples do not exist; give an object of a class.',
  },
  {
    says: /^Conversion from type '[^']+' to '[^']+' (?:requires an explicit cast|is unsafe)|^Conversion from type/, code: 'casts',
    message: 'This number does not become the other type by itself', hint: 'Say so where it cannot be too large: <u32>value or value as u32.',
  },
]

/** The compiler's error in plain words, where they are known. Its own words follow. */
export function inPlainWords(diagnostic: ContractDiagnostic): ContractDiagnostic {
  const known = diagnostic.severity === 'error' ? WORDS.find(({ says }) => says.test(diagnostic.message)) : undefined
  if (known === undefined) return diagnostic
  return { ...diagnostic, code: known.code, message: known.message, hint: `${known.hint} (The compiler: ${diagnostic.message.replace(/\.$/, '')}.)` }
}
