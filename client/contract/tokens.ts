/**
 * Words and signs of a TypeScript text, without comments and with strings as one token each, for rules that look at how something is
 * written and need no types. Total: any text gives tokens.
 */

export interface Token {
  readonly kind: 'word' | 'number' | 'string' | 'template' | 'regex' | 'sign'
  readonly text: string
  /** Where it begins. */
  readonly at: number
}

const SPACE = /\s+|\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)/y
const WORD = /#?[\p{L}_$][\p{L}\p{N}_$]*/uy
const NUMBER = /0[xX][0-9a-fA-F_]+n?|0[bBoO][0-7_]+n?|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?n?/y
const STRING = /'(?:[^'\\\n]|\\[\s\S])*'?|"(?:[^"\\\n]|\\[\s\S])*"?/y
const REGEX = /\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y
const TEMPLATE = /(?:[^`\\$]|\\[\s\S]|\$(?!\{))*(?:`|\$\{|$)/y
const SIGN = /\.\.\.|=>|\?\.(?![0-9])|\?\?=?|&&|\|\||[=!]==?|[<>]=|\+\+|--|[-+*/%&|^]=|[\s\S]/y

/** After these a slash divides; after anything else it begins a regular expression. */
const VALUE_WORD = /^(?!(?:return|typeof|case|in|of|do|else|void|delete|throw)$)/

export function tokenize(text: string): Token[] {
  const tokens: Token[] = []
  /** Depth of braces at which each open template goes on. */
  const templates: number[] = []
  let depth = 0
  let at = 0
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at
    return pattern.exec(text)?.[0]
  }
  const add = (kind: Token['kind'], found: string): void => {
    tokens.push({ kind, text: found, at })
    at += found.length
  }
  while (at < text.length) {
    const space = take(SPACE)
    if (space !== undefined) {
      at += space.length
      continue
    }
    const character = text.charAt(at)
    if (character === '`' || (character === '}' && templates.at(-1) === depth)) {
      if (character === '}') templates.pop()
      const start = at++
      const body = take(TEMPLATE) ?? ''
      if (body.endsWith('${')) templates.push(depth)
      at = start
      add('template', character + body)
      continue
    }
    const word = take(WORD)
    const number = word === undefined ? take(NUMBER) : undefined
    const string = word ?? number ?? take(STRING)
    if (word !== undefined) add('word', word)
    else if (number !== undefined) add('number', number)
    else if (string !== undefined) add('string', string)
    else {
      const regex = character === '/' && !isValue(tokens.at(-1)) ? take(REGEX) : undefined
      const sign = take(SIGN) ?? character
      if (regex === undefined && sign === '{') depth++
      if (regex === undefined && sign === '}') depth--
      add(regex === undefined ? 'sign' : 'regex', regex ?? sign)
    }
  }
  return tokens
}

function isValue(token: Token | undefined): boolean {
  if (token === undefined) return false
  if (token.kind === 'sign') return token.text === ')' || token.text === ']' || token.text === '}'
  return token.kind !== 'word' || VALUE_WORD.test(token.text)
}

/** Index of the sign that closes the one at `open`; the last token when nothing does. */
export function closing(tokens: readonly Token[], open: number): number {
  let depth = 0
  for (let index = open; index < tokens.length; index++) {
    const { kind, text } = tokens[index] as Token
    if (kind !== 'sign') continue
    if (text === '(' || text === '[' || text === '{') depth++
    if ((text === ')' || text === ']' || text === '}') && --depth === 0) return index
  }
  return tokens.length - 1
}
