/**
 * A lint rule: which room may import what. It resolves each import, of types too, to the file it names, and holds it to one
 * table. The table is the architecture's arrows; `arrows.test.ts` shows that each of them holds. Starting another room's entry
 * point as a process is no import.
 */
import path from 'node:path'

const ROOMS = new Set(['cmtp', 'services', 'providers', 'node', 'client', 'contracts', 'bench', 'test'])

/** Built-in modules that compute and do nothing else. */
const PURE = /^node:(?:assert|buffer|crypto|string_decoder|url|util)(?:\/|$)/
const PROVIDER_CONTRACT = /^services\/[a-z]+\/(?:provider|messages)\.ts$/
/** Types that every part shares, and the format of what a state store keeps. */
const SHARED_WITH_PROVIDERS = new Set(['services/log.ts', 'services/clock.ts', 'services/state/block.ts'])
const COMPOSER = 'providers/registry.ts'

/**
 * `file` says whether a file of another room may be imported, `module` the same of a package or built-in. Each gives what is
 * wrong, or undefined.
 *
 * @typedef {object} Arrow
 * @property {(target: string, room: string, from: string) => string | undefined} file
 * @property {(name: string, from: string) => string | undefined} [module]
 */

/** @type {Readonly<Record<string, Arrow>>} */
const ARROWS = {
  cmtp: {
    file: () => 'cmtp is the language of the mesh and imports nothing else of it',
    module: (name) => (isBuiltIn(name) && !PURE.test(name) ? `cmtp does no input and output, and ${name} does` : undefined),
  },
  services: {
    file: (_target, room) => (room === 'cmtp' ? undefined : `services import cmtp and services, not ${room}`),
    module: (name) => {
      if (isBuiltIn(name) && !PURE.test(name)) return `services reach the outside through providers, not through ${name}`
      return /^(?:@nats-io\/|hypercore|hyperbee|corestore)/.test(name) ? `${name} is a technology: it belongs into a provider` : undefined
    },
  },
  providers: {
    file: (target, room) => {
      if (room === 'cmtp' || PROVIDER_CONTRACT.test(target) || SHARED_WITH_PROVIDERS.has(target)) return undefined
      return `providers import cmtp and the provider.ts of a service, not ${target}`
    },
  },
  node: {
    file: (target, room) => {
      if (room === 'cmtp' || room === 'services' || target === COMPOSER || target.startsWith('providers/bus/')) return undefined
      return room === 'providers' ? `the node picks providers by name from ${COMPOSER}, never ${target} itself` : `the node does not import ${room}`
    },
  },
  client: {
    file: (_target, room) => (room === 'cmtp' ? undefined : `the client imports cmtp only, not ${room}`),
    module: (name) => (/^(?:hypercore|hyperbee|corestore|@nats-io\/jetstream)/.test(name) ? `${name} is a node's, not a client's` : undefined),
  },
  contracts: {
    file: (_target, room) => `contracts import nothing of ${room}`,
    module: (name, from) => {
      if (name === 'cmesh/sdk' || name.startsWith('cmesh/sdk/')) return undefined
      if (name.startsWith('rt/') && from.startsWith('contracts/sdk/')) return undefined
      return `contracts import nothing but their SDK, not ${name}`
    },
  },
  bench: { file: (_target, room) => (room === 'test' ? 'the benchmarks do not import test' : undefined) },
  test: { file: () => undefined },
}

/** @type {import('eslint').Rule.RuleModule} */
export const arrowsRule = {
  meta: { type: 'problem', schema: [], messages: { arrow: '{{reason}}.' } },
  create(context) {
    const file = path.relative(context.cwd, context.filename).split(path.sep).join('/')
    const room = roomOf(file)
    const arrow = room === undefined ? undefined : ARROWS[room]
    if (arrow === undefined) return {}

    /** @param {any} source The literal that names what is imported. */
    const check = (source) => {
      if (typeof source?.value !== 'string') return
      const reason = judge(arrow, file, room, source.value)
      if (reason !== undefined) context.report({ node: source, messageId: 'arrow', data: { reason } })
    }
    return {
      ImportDeclaration: (node) => { check(node.source) },
      ExportNamedDeclaration: (node) => { check(node.source) },
      ExportAllDeclaration: (node) => { check(node.source) },
      ImportExpression: (node) => { check(node.source) },
      TSImportType: (/** @type {any} */ node) => { check(node.source ?? node.argument?.literal) },
    }
  },
}

/**
 * @param {Arrow} arrow
 * @param {string} from
 * @param {string | undefined} room
 * @param {string} source
 * @returns {string | undefined}
 */
function judge(arrow, from, room, source) {
  if (!source.startsWith('.')) return arrow.module?.(source, from)
  const target = path.posix.join(path.posix.dirname(from), source)
  const other = roomOf(target)
  if (other === room || other === undefined) return undefined
  return arrow.file(target, other, from)
}

/** @param {string} file */
function roomOf(file) {
  const room = file.split('/', 1)[0] ?? ''
  return ROOMS.has(room) ? room : undefined
}

/** @param {string} name */
function isBuiltIn(name) {
  return name.startsWith('node:')
}
