/**
 * The `cmesh.abi` custom section of a module: what the contract says of its functions and events. It is written by whoever
 * deploys, so that reading it is total: any bytes give an ABI or `CMESH_DEPLOY_ABI`. Fields it does not know are left out.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { ContractAbi, FunctionAbi, FunctionMode } from '../../services/contracts/provider.ts'

export const ABI_SECTION = 'cmesh.abi'

/** A parameter with a default may be left out by the caller, with all that follow it. */
export interface ParameterAbi {
  readonly name: string
  readonly type: string
  /** JSON value. */
  readonly default?: string | number | boolean
}

/** Names end up in addresses: they are segments of an FQMN and short. */
const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/
const MODES: readonly FunctionMode[] = ['view', 'write', 'init', 'migrate', 'reply']
const MOST_FUNCTIONS = 256
const MOST_FIELDS = 32

export function parseAbi(bytes: Uint8Array): ContractAbi {
  const abi = record(json(bytes), 'it')
  if (abi['abi'] !== 1) refuse('its version is not 1')
  const functions = list(abi['functions'], 'functions', MOST_FUNCTIONS).map(functionAbi)
  if (functions.length === 0) refuse('it lists no function')
  for (const only of ['init', 'migrate']) {
    if (functions.filter(({ mode }) => mode === only).length > 1) refuse(`it lists more than one ${only} function`)
  }
  const events = shapes(abi['events'], 'events', 'an event')
  const records = abi['records'] === undefined ? undefined : shapes(abi['records'], 'records', 'a record')
  for (const names of [functions, events, records ?? []]) unique(names.map(({ name }) => name))
  return { abi: 1, sdk: text(abi['sdk'], 'sdk'), functions, events, ...(records !== undefined && { records }) }
}

/** Events, or the records that results are made of. */
function shapes(value: unknown, all: string, one: string): ContractAbi['events'] {
  return list(value, all, MOST_FUNCTIONS).map((entry) => {
    const shape = record(entry, one)
    const fields = list(shape['fields'], 'fields', MOST_FIELDS).map(parameter)
    return { name: text(shape['name'], `the name of ${one}`), fields }
  })
}

function functionAbi(value: unknown): FunctionAbi {
  const entry = record(value, 'a function')
  const name = identifier(entry['name'])
  const mode = MODES.find((known) => known === entry['mode']) ?? refuse(`the mode of ${name} is not one of ${MODES.join(', ')}`)
  const params = list(entry['params'], `the parameters of ${name}`, MOST_FIELDS).map(parameter)
  unique(params.map((param) => param.name))
  return { name, mode, params, returns: text(entry['returns'], `the result of ${name}`) }
}

function parameter(value: unknown): ParameterAbi {
  const entry = record(value, 'a parameter')
  const plain = { name: identifier(entry['name']), type: text(entry['type'], 'a type') }
  const fallback = entry['default']
  if (fallback === undefined) return plain
  if (typeof fallback === 'number' || typeof fallback === 'boolean') return { ...plain, default: fallback }
  return { ...plain, default: typeof fallback === 'string' ? fallback : refuse(`the default of ${plain.name} is not a scalar`) }
}

function refuse(reason: string): never {
  throw new CMeshError('CMESH_DEPLOY_ABI', { reason })
}

function json(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    return refuse('the text is not JSON in UTF-8')
  }
}

function record(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(`${what} is not an object`)
  return value as Record<string, unknown>
}

function list(value: unknown, what: string, most: number): unknown[] {
  if (!Array.isArray(value) || value.length > most) refuse(`${what} is not a list of at most ${most}`)
  return value
}

function text(value: unknown, what: string): string {
  if (typeof value !== 'string' || value.length === 0 || value.length > 64) refuse(`${what} is not a text of 1 to 64 characters`)
  return value
}

function identifier(value: unknown): string {
  if (typeof value !== 'string' || !NAME.test(value)) {
    refuse('a name is not a letter or _ followed by at most 63 letters, digits or _')
  }
  return value
}

function unique(names: readonly string[]): void {
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) refuse(`${twice} stands twice`)
}
