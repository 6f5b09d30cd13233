/**
 * Permissions: which actions on which addresses. This file owns the actions, the patterns, which action an address asks for,
 * and the two sets every mesh begins with. It knows no subject: who holds a permission is IAM's to say.
 *
 * A permission is written `read,write 0xSW:0x001:>`: actions, one space, one pattern. A pattern is an address without
 * arguments in which a token (what stands between colons) may be `*`, any one token, and the last may be `>`, one or more
 * tokens. Permissions only allow; what none allows is denied, and no action implies another.
 *
 * The reserved channel: in `0xE:audit…` and `0xEW:audit…` the token `audit` is matched by itself alone, never by `*` or `>`.
 */
import { CMeshError } from './errors.ts'
import type { Route, ServiceLetter } from './fqmn.ts'
import { isSegment } from './fqmn.ts'
import { LIMITS } from './limits.ts'

export const ACTIONS = Object.freeze({ read: 1, write: 2, exec: 4, deploy: 8, proxy: 16, replace: 32, peer: 64 })

export type ActionName = keyof typeof ACTIONS
/** One bit of `ACTIONS`. */
export type Action = (typeof ACTIONS)[ActionName]

export interface Permission {
  /** Bits of `ACTIONS`, at least one. */
  readonly actions: number
  readonly pattern: string
}

const NAMES = Object.keys(ACTIONS) as readonly ActionName[]
const RESERVED_CHANNEL = 'audit'
const SYSTEM_CONTRACT = '0x000'

/** Most permissions in one list from outside. */
export const MAX_PERMISSIONS = 256

/** The name of an action, for messages. */
export function actionName(action: Action): ActionName {
  return NAMES[31 - Math.clz32(action)] as ActionName
}

/**
 * The one action an address asks for, decided by the outer opcode: P asks for `peer`, A for `exec`;
 * `0xSW:0x000:deploy|replace|proxy` for the action of that name; any other W for `write`; the rest for `read`.
 */
export function actionOf(route: Route): Action {
  if (route.service === 'P') return ACTIONS.peer
  if (route.service === 'A') return ACTIONS.exec
  if (!route.write) return ACTIONS.read
  if (route.service === 'S' && route.segments[0] === SYSTEM_CONTRACT) {
    switch (route.segments[1]) {
      case 'deploy': return ACTIONS.deploy
      case 'replace': return ACTIONS.replace
      case 'proxy': return ACTIONS.proxy
    }
  }
  return ACTIONS.write
}

const LETTERS: readonly ServiceLetter[] = ['I', 'R', 'S', 'E', 'A', 'C', 'P']
/** Index = 2 × service + W. */
const OPCODES: readonly string[] = LETTERS.flatMap(letter => [`0x${letter}`, `0x${letter}W`])

function opcodeIndex(route: Route): number {
  const w = route.write ? 1 : 0
  switch (route.service) {
    case 'I': return w
    case 'R': return 2 + w
    case 'S': return 4 + w
    case 'E': return 6 + w
    case 'A': return 8 + w
    case 'C': return 10 + w
    case 'P': return 12 + w
  }
}

/** A pattern behind its opcode, ready to compare. */
interface Rule {
  readonly actions: number
  /** The tokens behind the opcode, without the `>`. */
  readonly tokens: readonly string[]
  /** The pattern ends in `>`. */
  readonly tail: boolean
  readonly pattern: string
}

/** Permissions sorted by opcode, so that a look-up compares only with patterns that can match. Immutable. */
export interface CompiledPermissions {
  readonly permissions: readonly Permission[]
  /** Index as in `OPCODES`. */
  readonly rules: readonly (readonly Rule[])[]
}

/** Throws `CMESH_IAM_PERMISSION` for a pattern or actions that are not valid. */
export function compilePermissions(permissions: readonly Permission[]): CompiledPermissions {
  const rules: Rule[][] = OPCODES.map(() => [])
  for (const permission of permissions) {
    checkPermission(permission)
    const { actions, pattern } = permission
    const tokens = pattern.split(':')
    const tail = tokens.at(-1) === '>'
    const rule: Rule = { actions, tokens: tokens.slice(1, tail ? -1 : undefined), tail, pattern }
    const opcode = tokens[0] as string
    OPCODES.forEach((text, index) => {
      if (opcode === text || opcode === '*' || opcode === '>') rules[index]?.push(rule)
    })
  }
  return { permissions, rules }
}

/** The first pattern that allows the action on the address; `undefined` when none does. Allocates nothing. */
export function allowedBy(compiled: CompiledPermissions, action: Action, route: Route): string | undefined {
  const rules = compiled.rules[opcodeIndex(route)] as readonly Rule[]
  const reserved = route.service === 'E' && route.segments[0] === RESERVED_CHANNEL
  for (let i = 0; i < rules.length; i++) {
    const rule = rules[i] as Rule
    if ((rule.actions & action) === 0 || (reserved && rule.tokens[0] !== RESERVED_CHANNEL)) continue
    if (matches(rule, route)) return rule.pattern
  }
  return undefined
}

export function covers(compiled: CompiledPermissions, action: Action, route: Route): boolean {
  return allowedBy(compiled, action, route) !== undefined
}

function matches(rule: Rule, route: Route): boolean {
  let level = route
  let at = 0
  const { tokens } = rule
  for (let i = 0; i < tokens.length; i++) {
    let token: string
    if (at < level.segments.length) {
      token = level.segments[at++] as string
    } else if (level.inner !== undefined) {
      level = level.inner
      at = 0
      token = OPCODES[opcodeIndex(level)] as string
    } else {
      return false
    }
    const wanted = tokens[i] as string
    if (wanted !== token && wanted !== '*') return false
  }
  const more = at < level.segments.length || level.inner !== undefined
  return rule.tail === more
}

// --- text

/** Throws `CMESH_IAM_PERMISSION`. */
export function parsePermission(text: string): Permission {
  const space = text.indexOf(' ')
  if (space < 1) throw invalid(text, 'it has the form "action,action pattern"')
  let actions = 0
  for (const name of text.slice(0, space).split(',')) {
    if (!Object.hasOwn(ACTIONS, name)) throw invalid(text, `"${name.slice(0, 32)}" is no action; there are ${NAMES.join(', ')}`)
    const bit = ACTIONS[name as ActionName]
    if ((actions & bit) !== 0) throw invalid(text, `"${name}" stands there twice`)
    actions |= bit
  }
  const permission = { actions, pattern: text.slice(space + 1) }
  checkPermission(permission, text)
  return permission
}

/** Actions in the order of their bits. */
export function formatPermission({ actions, pattern }: Permission): string {
  return `${NAMES.filter(name => (actions & ACTIONS[name]) !== 0).join(',')} ${pattern}`
}

/**
 * Permissions from their texts, in normal form. A text may also name a set (`newcomer`, `operator`), which stands for its
 * members. Throws `CMESH_IAM_PERMISSION`.
 */
export function parsePermissions(texts: readonly string[]): readonly Permission[] {
  if (texts.length > MAX_PERMISSIONS) throw invalid(`${texts.length} of them`, `at most ${MAX_PERMISSIONS} may stand in one list`)
  return normalPermissions(texts.flatMap(text => SETS.get(text) ?? [parsePermission(text)]))
}

/** The shortest texts for the permissions: the name of a set where they are exactly that set, else one text each. */
export function formatPermissions(permissions: readonly Permission[]): readonly string[] {
  const texts = normalPermissions(permissions).map(formatPermission)
  for (const [name, set] of SETS) {
    if (set.length === texts.length && set.every((permission, i) => formatPermission(permission) === texts[i])) return [name]
  }
  return texts
}

/** One permission a pattern, in the order of the patterns' code units. */
export function normalPermissions(permissions: readonly Permission[]): readonly Permission[] {
  const byPattern = new Map<string, number>()
  for (const { actions, pattern } of permissions) byPattern.set(pattern, (byPattern.get(pattern) ?? 0) | actions)
  return [...byPattern].map(([pattern, actions]) => ({ actions, pattern })).sort((a, b) => (a.pattern < b.pattern ? -1 : 1))
}

/**
 * What both lists allow. Never more: an address is covered by the result only if each list covers it. It is exactly that for
 * patterns whose opcode is written out or `>`; `*` as an opcode loses the word `audit` behind it.
 */
export function intersectPermissions(a: readonly Permission[], b: readonly Permission[]): readonly Permission[] {
  const both: Permission[] = []
  const others = b.map(({ actions, pattern }) => ({ actions, tokens: pattern.split(':') }))
  for (const { actions, pattern } of a) {
    const tokens = pattern.split(':')
    for (const other of others) {
      if ((actions & other.actions) === 0) continue
      const common = intersectPatterns(tokens, other.tokens)
      if (common !== undefined) both.push({ actions: actions & other.actions, pattern: common })
    }
  }
  return normalPermissions(both)
}

/** Whether the list allows at least all that one permission allows: what one may hand on. May say no for a pattern whose opcode is `*`. */
export function isCovered({ actions, pattern }: Permission, list: readonly Permission[]): boolean {
  const common = intersectPermissions([{ actions, pattern }], list).find(each => each.pattern === pattern)
  return common !== undefined && (common.actions & actions) === actions
}

/** The list without what one other entry of it, whose pattern ends in `>`, allows already: equal rights in fewer bytes of a token. */
export function withoutCovered(list: readonly Permission[]): readonly Permission[] {
  const wide = list.filter(({ pattern }) => pattern.endsWith('>'))
  return list.filter(each => !wide.some(other => other !== each && isCovered(each, [other])))
}

function intersectPatterns(a: readonly string[], b: readonly string[]): string | undefined {
  const tokens: string[] = []
  for (let i = 0; ; i++) {
    const x = a[i]
    const y = b[i]
    if (x === undefined || y === undefined) {
      if (x !== y) return undefined
      break
    }
    if (x === '>' || y === '>') {
      tokens.push(...(x === '>' ? b : a).slice(i))
      break
    }
    if (x !== y && x !== '*' && y !== '*') return undefined
    tokens.push(x === '*' ? y : x)
  }
  const ofEvents = tokens[0] === '0xE' || tokens[0] === '0xEW' || tokens[0] === '*'
  if (ofEvents && tokens[1] === RESERVED_CHANNEL && a[1] !== b[1]) return undefined
  return tokens.join(':')
}

function checkPermission(permission: Permission, text = permission.pattern): void {
  const { actions, pattern } = permission
  if (!Number.isInteger(actions) || actions < 1 || actions > 127) throw invalid(text, 'it has no action')
  if (pattern.length > LIMITS.fqmnBytes) throw invalid(text, `a pattern has at most ${LIMITS.fqmnBytes} bytes`)
  const tokens = pattern.split(':')
  tokens.forEach((token, i) => {
    if (token === '*') return
    if (token === '>') {
      if (i !== tokens.length - 1) throw invalid(text, '">" stands at the end only')
    } else if (i === 0 ? !OPCODES.includes(token) : !isSegment(token)) {
      throw invalid(
        text, i === 0 ? 'a pattern begins with an opcode, "*" or ">"' : `"${token.slice(0, 32)}" is no token of an address`,
      )
    }
  })
  if (tokens.length === 1 && tokens[0] !== '>') throw invalid(text, 'a pattern needs something behind the opcode')
}

function invalid(permission: string, reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_PERMISSION', { permission: permission.slice(0, 128), reason })
}

// --- the sets every mesh begins with

/**
 * What an identity nobody granted anything to may do: read every service but the audit channel, end and renew its own
 * session, hold names, import and take back capabilities, settle its own dead letters, and rotate its own key. Names are safe to give away because a quota per DID
 * bounds them and a name grants nothing: to write to a contract through one (`0xRW:<name>:…`) takes the permission on the address it
 * resolves to, which is not here.
 */
export const NEWCOMER_READ_SET: readonly Permission[] = setOf(
  'read 0xC:>', 'read 0xE:>', 'read 0xI:>', 'read 0xR:>', 'read 0xS:>',
  'write 0xEW:events.dead:*:drop', 'write 0xEW:events.dead:*:replay',
  'write 0xIW:capability', 'write 0xIW:hangup', 'write 0xIW:prepare', 'write 0xIW:refresh', 'write 0xIW:rotate', 'write 0xIW:uncapability',
  'write 0xRW:register:>', 'write 0xRW:release:>', 'write 0xRW:renew:>', 'write 0xRW:transfer:>', 'write 0xRW:update:>',
)

/** Everything but `exec`, which belongs to services alone. The reserved channel is named, since no wildcard reaches it. */
export const OPERATOR_SET: readonly Permission[] = setOf(
  'read,write,deploy,proxy,replace,peer >',
  'read 0xE:audit', 'read 0xE:audit:>',
)

const SETS: ReadonlyMap<string, readonly Permission[]> = new Map([['newcomer', NEWCOMER_READ_SET], ['operator', OPERATOR_SET]])

function setOf(...texts: readonly string[]): readonly Permission[] {
  return Object.freeze(normalPermissions(texts.map(parsePermission)).map(permission => Object.freeze(permission)))
}
