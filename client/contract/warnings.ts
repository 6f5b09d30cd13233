/**
 * What compiles and is rarely meant: said whether the source compiles or not. The rules look at how something is written, without
 * types, so that they may be wrong; none of them stops a build.
 */
import type { Finding } from './diagnostics.ts'
import { closing, tokenize } from './tokens.ts'
import type { Token } from './tokens.ts'

const STORES = ['Cell', 'StateMap', 'SortedMap']
/** A page that is larger than this is rarely meant: one scan of the host gives 256 entries. */
const LARGE_PAGE = 1_000n
/** As the SDK takes them (`contracts/sdk/keys.ts`), and without the slash that ends the name of a map. */
const STORE_NAME = /^['"][!-.0-~]{1,64}['"]$/

/** Of one file, in the order of the text. */
export function warnings(text: string): Finding[] {
  const file = new FileRules(tokenize(text))
  const found = [...file.floats(), ...file.names(), ...file.wraps(), ...file.unboundedLoops(), ...file.largePages(), ...file.writingViews()]
  return found.sort((a, b) => a.start - b.start)
}

class FileRules {
  readonly #tokens: readonly Token[]
  /** Variables that hold a cell or a map, by how they are declared: `const x = new Cell<u64>('x')`. */
  readonly #stores: ReadonlyMap<string, string>

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
    this.#stores = new Map(tokens.flatMap((token, index) => (
      STORES.includes(token.text) && this.#text(index - 1) === 'new' && this.#text(index - 2) === '=' ? [[this.#text(index - 3), token.text] as const] : [])))
  }

  /** Fractions round; money made of them goes missing. */
  floats(): Finding[] {
    return this.#each((token, index) => {
      const [before, after] = [this.#text(index - 1), this.#text(index + 1)]
      const type = token.kind === 'word' && ['f32', 'f64', 'number'].includes(token.text) && after !== '('
        && ([':', '<', 'as', '|'].includes(before) || (before === ',' && after === '>'))
      const literal = token.kind === 'number' && /^[0-9_]*\.[0-9_]|^[0-9_]+\.?[0-9_]*[eE]/.test(token.text)
      if (!type && !literal) return undefined
      return this.#finding(token, token, 'floats', 'Numbers with a fraction round',
        'Amounts are u64 of the smallest unit; for shares and fees take checked.mulDiv(amount, part, whole).')
    })
  }

  /** Names of cells and maps: their keys in the state. */
  names(): Finding[] {
    const seen = new Set<string>()
    return this.#each((token, index) => {
      if (!STORES.includes(token.text) || this.#text(index - 1) !== 'new') return undefined
      const name = this.#tokens.slice(index, index + 24).find((next, at, near) => next.kind === 'string' && near[at - 1]?.text === '(')
      if (name === undefined) return undefined
      if (!STORE_NAME.test(name.text)) {
        return this.#finding(name, name, 'store-name', 'The name of a cell or a map has 1 to 64 characters of ASCII, no space and no slash', 'A slash stands between the name of a map and a key.')
      }
      const plain = name.text.slice(1, -1)
      if (!seen.has(plain)) {
        seen.add(plain)
        return undefined
      }
      return this.#finding(name, name, 'store-name', `Another cell or map is called ${plain} already: they would overwrite each other`, 'Give it a name of its own.')
    })
  }

  /** `total.set(total.get() - amount)`. */
  wraps(): Finding[] {
    return this.#each((token, index) => {
      if (token.text !== 'set' || this.#text(index - 1) !== '.' || this.#text(index + 1) !== '(' || !this.#stores.has(this.#text(index - 2))) return undefined
      const given = this.#tokens.slice(index + 2, closing(this.#tokens, index + 1))
      const reads = given.some(({ text }, at) => (text === 'get' || text === 'getOr') && given[at - 1]?.text === '.')
      const operator = given.find(({ kind, text }, at) => kind === 'sign' && ['+', '-', '*'].includes(text) && at > 0 && given[at - 1]?.kind !== 'string')
      if (!reads || operator === undefined || given.some(({ kind }) => kind === 'string' || kind === 'template')) return undefined
      return this.#finding(operator, operator, 'wraps', 'A sum or difference that does not fit wraps around without a word',
        'checked.add, checked.sub and checked.mul revert instead.')
    })
  }

  /** `for (let i = 0; i < count.get(); i++)`: whoever adds to the state makes the call dearer, until nobody can pay it. */
  unboundedLoops(): Finding[] {
    return this.#each((token, index) => {
      if ((token.text !== 'for' && token.text !== 'while') || this.#text(index + 1) !== '(') return undefined
      const end = closing(this.#tokens, index + 1)
      const head = this.#tokens.slice(index + 2, end)
      const fromState = head.some(({ text }, at) => text === 'get' && head[at - 1]?.text === '.' && this.#stores.has(head[at - 2]?.text ?? ''))
      if (!fromState) return undefined
      return this.#finding(token, this.#tokens[end] ?? token, 'unbounded', 'How often this loop runs lies in the state, and somebody may add to it until a call runs out of gas',
        'Bound it, and go on in another call: a SortedMap gives pages with range().after(key).entries(limit).')
    })
  }

  /** `entries(1000000)`. */
  largePages(): Finding[] {
    return this.#each((token, index) => {
      const limit = this.#tokens[index + 2]
      if (!['entries', 'keys', 'values'].includes(token.text) || this.#text(index - 1) !== '.' || this.#text(index + 1) !== '(' || limit === undefined) return undefined
      const number = limit.kind === 'number' && /^[0-9_]+$/.test(limit.text) ? BigInt(limit.text.replaceAll('_', '')) : undefined
      if (!((number !== undefined && number > LARGE_PAGE) || (/^[iu](?:32|64)$/.test(limit.text) && this.#text(index + 4) === 'MAX_VALUE'))) return undefined
      return this.#finding(token, limit, 'unbounded', 'A page this large may not fit into the gas of a call', 'Take at most some hundred, and go on with after(key).')
    })
  }

  /** `@view export function look(): void { seen.set(true) }`. */
  writingViews(): Finding[] {
    return this.#tokens.flatMap((token, index) => {
      if (token.text !== 'view' || this.#text(index - 1) !== '@') return []
      const open = this.#tokens.findIndex(({ text }, at) => at > index && text === '{')
      const end = open < 0 ? -1 : closing(this.#tokens, open)
      return this.#tokens.slice(0, Math.max(0, end)).flatMap((inner, at) => {
        if (at <= open) return []
        const store = (inner.text === 'set' || inner.text === 'delete') && this.#text(at - 1) === '.' && this.#stores.has(this.#text(at - 2))
        const other = ['emit', 'emitText', 'send'].includes(inner.text) && this.#text(at + 1) === '('
        if (!store && !other) return []
        return [this.#finding(inner, inner, 'writing-view', 'A view may not change state, emit or send: the call fails here', 'Leave @view away, or only read.')]
      })
    })
  }

  #each(rule: (token: Token, index: number) => Finding | undefined): Finding[] {
    return this.#tokens.flatMap((token, index) => rule(token, index) ?? [])
  }

  #text(index: number): string {
    return this.#tokens[index]?.text ?? ''
  }

  #finding(from: Token, to: Token, code: string, message: string, hint: string): Finding {
    return { severity: 'warning', code, message, hint, start: from.at, end: to.at + to.text.length }
  }
}
