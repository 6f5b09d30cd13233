/**
 * Resolves a node's settings once: argument over environment over file over default. Unknown keys and values out of range
 * are refused with the setting's name; the caller's objects stay untouched; the result is frozen.
 */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import path from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import { SETTINGS, type Config, type Setting, type SettingKey } from './settings.ts'

export interface ConfigSources {
  /** Highest: from the command line or the caller. */
  readonly arguments?: Readonly<Record<string, unknown>>
  /** Default: none. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** A JSON file whose keys are settings. Default: none. */
  readonly file?: string | undefined
}

/** Environment variables that belong to other parts of CMesh. */
const OTHER_VARIABLES: ReadonlySet<string> = new Set(['CMESH_URL', 'CMESH_CONFIG_DIR', 'CMESH_NATS_URL', 'CMESH_CONFIG'])

/** What a setting is also called in the environment: by the name it has among all that use NATS, or OpenTelemetry. */
const ALIASES: Partial<Record<SettingKey, (env: Readonly<Record<string, string | undefined>>) => string | undefined>> = {
  'bus.url': env => env['CMESH_NATS_URL'],
  'traces.endpoint': env => env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] || tracesUnder(env['OTEL_EXPORTER_OTLP_ENDPOINT']),
  'traces.headers': env => env['OTEL_EXPORTER_OTLP_TRACES_HEADERS'] || env['OTEL_EXPORTER_OTLP_HEADERS'],
}

/** Throws `CMESH_CONFIG_INVALID` or `CMESH_CONFIG_UNKNOWN`. */
export function resolveConfig({ arguments: given = {}, env = {}, file }: ConfigSources): Config {
  const fromFile = file === undefined ? {} : readFile(file)
  for (const key of [...Object.keys(given), ...Object.keys(fromFile)]) {
    if (!Object.hasOwn(SETTINGS, key)) throw unknown(key)
  }
  const variables = new Map<string, SettingKey>((Object.keys(SETTINGS) as SettingKey[]).map(key => [variableOf(key), key]))
  for (const name of Object.keys(env)) {
    if (name.startsWith('CMESH_') && !variables.has(name) && !OTHER_VARIABLES.has(name)) throw unknown(name, [...variables.keys()])
  }
  const values: [string, unknown][] = []
  for (const [variable, key] of variables) {
    // An empty text is no value: a variable that a container passes on unset must not hide what the file says.
    const raw = [given[key], env[variable], ALIASES[key]?.(env), fromFile[key]]
      .find(value => value !== undefined && value !== null && value !== '')
    values.push([key, raw === undefined ? SETTINGS[key].default : read(key, SETTINGS[key], raw)])
  }
  const config = Object.fromEntries(values) as Omit<Config, 'data.dir'> & { readonly 'data.dir': string | undefined }
  return Object.freeze({ ...config, 'data.dir': path.resolve(config['data.dir'] ?? defaultDataDir(env)) })
}

/** Settings from the values of `--set`, each `KEY=VALUE`. Throws `CMESH_CONFIG_INVALID`. */
export function settingsOfPairs(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(pairs.map(pair => {
    const at = pair.indexOf('=')
    if (at < 1) throw new CMeshError('CMESH_CONFIG_INVALID', { key: '--set', reason: `${pair} is not KEY=VALUE` })
    if (at === pair.length - 1) throw new CMeshError('CMESH_CONFIG_INVALID', { key: pair.slice(0, at), reason: 'there is nothing behind the =; leave it out for its default' })
    return [pair.slice(0, at), pair.slice(at + 1)]
  }))
}

/** `state.viewCache` is `CMESH_STATE_VIEW_CACHE`. */
export function variableOf(key: string): string {
  return `CMESH_${key.replace(/([a-z])([A-Z])/g, '$1_$2').replaceAll('.', '_').toUpperCase()}`
}

/** The receiver for traces of one for all signals. */
function tracesUnder(endpoint: string | undefined): string | undefined {
  return endpoint ? `${endpoint.replace(/\/$/, '')}/v1/traces` : undefined
}

function defaultDataDir(env: Readonly<Record<string, string | undefined>>): string {
  return path.join(env['XDG_DATA_HOME'] || path.join(homedir(), '.local', 'share'), 'cmesh')
}

function read(key: string, setting: Setting, raw: unknown): string | number | boolean {
  const invalid = (reason: string): CMeshError => new CMeshError('CMESH_CONFIG_INVALID', { key, reason })
  switch (setting.kind) {
    case 'text':
      if (typeof raw !== 'string') throw invalid('it is a text')
      try {
        setting.check?.(raw)
      } catch (cause) {
        if (!(cause instanceof CMeshError)) throw cause
        throw new CMeshError('CMESH_CONFIG_INVALID', { key, reason: String(cause.detail['reason'] ?? cause.message) }, { cause })
      }
      return raw
    case 'flag':
      if (raw === true || raw === 'true' || raw === '1') return true
      if (raw === false || raw === 'false' || raw === '0') return false
      throw invalid('it is true or false')
    case 'choice':
      if (typeof raw !== 'string' || !setting.choices.includes(raw)) throw invalid(`it is one of ${setting.choices.join(', ')}`)
      return raw
    case 'number': {
      const value = typeof raw === 'string' && /^\d+$/.test(raw) ? Number(raw) : raw
      if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < setting.min || value > setting.max) {
        throw invalid(`it is a whole number from ${setting.min} to ${setting.max} (${setting.unit})`)
      }
      return value
    }
  }
}

function readFile(file: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(file, 'utf8'))
  } catch (cause) {
    throw new CMeshError('CMESH_CONFIG_INVALID', { key: file, reason: cause instanceof Error ? cause.message : 'it cannot be read' }, { cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new CMeshError('CMESH_CONFIG_INVALID', { key: file, reason: 'it holds no JSON object' })
  return value as Record<string, unknown>
}

function unknown(key: string, known: readonly string[] = Object.keys(SETTINGS)): CMeshError {
  return new CMeshError('CMESH_CONFIG_UNKNOWN', { key, known: known.join(', ') })
}
