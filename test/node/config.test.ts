import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { resolveConfig, variableOf } from '../../node/config.ts'
import { SETTINGS, type Setting, type SettingKey } from '../../node/settings.ts'
import { createProvider, REGISTRY, type ProviderContext, type ProviderKind } from '../../providers/registry.ts'
import { attempt, refusal } from '../support/refusal.ts'

let dir: string
beforeAll(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-config-')) })
afterAll(() => rm(dir, { recursive: true, force: true }))

const DID = 'did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK'
/** A text that means something, for each setting that not every text will do for. */
const TEXTS: Readonly<Record<string, string>> = {
  'operator': DID,
  'iam.grants': `${DID}=read 0xC:>`,
  'iam.issuers': DID,
  'iam.irma.url': 'https://irma.example',
  'iam.irma.key': randomBytes(32).toString('base64'),
  'iam.irma.serverKey': generateKeyPairSync('rsa', { modulusLength: 2_048 }).publicKey.export({ type: 'spki', format: 'pem' }) as string,
  'iam.irma.disclose': '[[["pbdf.sidn-pbdf.email.email"]]]',
  'traces.endpoint': 'http://127.0.0.1:4318/v1/traces',
  'traces.headers': 'authorization=Basic%20eDp5',
}
const settings = Object.entries(SETTINGS) as [SettingKey, Setting][]

async function fileWith(text: string): Promise<string> {
  const file = path.join(await mkdtemp(path.join(dir, 'file-')), 'cmesh.json')
  await writeFile(file, text)
  return file
}

describe('where a setting comes from', () => {
  test('argument before environment before file before default', async () => {
    const file = await fileWith('{"http.port": 3, "log.level": "warn", "router.drainMs": 30}')
    const env = { CMESH_HTTP_PORT: '2', CMESH_LOG_LEVEL: 'error' }
    expect(resolveConfig({ arguments: { 'http.port': 1 }, env, file })).toMatchObject({
      'http.port': 1, 'log.level': 'error', 'router.drainMs': 30, 'router.perSession': 1_024,
    })
  })

  test('OpenTelemetry\'s own variables say where traces go, behind those of this node', () => {
    const at = (env: Readonly<Record<string, string>>): unknown[] => [resolveConfig({ env })['traces.endpoint'], resolveConfig({ env })['traces.headers']]
    const all = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://all:4318/', OTEL_EXPORTER_OTLP_HEADERS: 'a=1' }
    const traces = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://traces:4318/in', OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'b=2' }
    expect(at(all)).toEqual(['http://all:4318/v1/traces', 'a=1'])
    expect(at({ ...all, ...traces })).toEqual(['http://traces:4318/in', 'b=2'])
    expect(at({ ...all, ...traces, CMESH_TRACES_ENDPOINT: 'https://own/', CMESH_TRACES_HEADERS: 'c=3' })).toEqual(['https://own/', 'c=3'])
    expect(at({})).toEqual([undefined, undefined])
    expect(refusal(() => resolveConfig({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: 'collector' } }))).toMatchObject({
      code: 'CMESH_CONFIG_INVALID', message: 'The setting traces.endpoint is not valid: it is an http or https URL.',
    })
  })

  test('every setting without a source has its default', () => {
    const config = resolveConfig({ env: { HOME: '/nowhere' } })
    for (const [key, setting] of settings) {
      if (key === 'data.dir') continue
      expect({ key, value: config[key] }).toEqual({ key, value: setting.default })
    }
    expect(Object.keys(config)).toEqual(Object.keys(SETTINGS))
  })

  test('an empty text is no value: the next source counts', async () => {
    const file = await fileWith('{"http.port": 3, "operator": ""}')
    expect(resolveConfig({ arguments: { 'http.port': '' }, env: { CMESH_HTTP_PORT: '' }, file })).toMatchObject({ 'http.port': 3 })
    expect(resolveConfig({ file }).operator).toBeUndefined()
  })

  test('a setting a.bCd is the variable CMESH_A_B_CD', () => {
    expect(variableOf('state.viewCache')).toBe('CMESH_STATE_VIEW_CACHE')
    expect(variableOf('iam.sessionTtlMs')).toBe('CMESH_IAM_SESSION_TTL_MS')
    for (const [key, setting] of settings) {
      const value = { text: TEXTS[key] ?? 'a', flag: 'true', choice: setting.kind === 'choice' ? setting.choices.at(-1) : '', number: setting.kind === 'number' ? String(setting.max) : '' }[setting.kind]
      const read = resolveConfig({ env: { [variableOf(key)]: value } })[key]
      expect({ key, read: String(read) }).toEqual({ key, read: key === 'data.dir' ? path.resolve('a') : value })
    }
  })

  test('CMESH_NATS_URL names the broker when nothing more exact does', () => {
    const env = { CMESH_NATS_URL: 'nats://a:4222' }
    expect(resolveConfig({ env })['bus.url']).toBe('nats://a:4222')
    expect(resolveConfig({ env: { ...env, CMESH_BUS_URL: 'nats://b:4222' } })['bus.url']).toBe('nats://b:4222')
  })

  test('the data directory is absolute, and under XDG_DATA_HOME or the home by default', () => {
    expect(resolveConfig({ arguments: { 'data.dir': 'here' } })['data.dir']).toBe(path.resolve('here'))
    expect(resolveConfig({ env: { XDG_DATA_HOME: '/data' } })['data.dir']).toBe('/data/cmesh')
    expect(resolveConfig({ env: { XDG_DATA_HOME: '' } })['data.dir']).toBe(path.join(os.homedir(), '.local', 'share', 'cmesh'))
    expect(resolveConfig({})['data.dir']).toBe(path.join(os.homedir(), '.local', 'share', 'cmesh'))
  })
})

describe('the table of settings', () => {
  test('has defaults that it would accept itself', () => {
    for (const [key, setting] of settings) {
      if (setting.default === undefined) continue
      expect({ key, value: resolveConfig({ arguments: { [key]: setting.default } })[key] }).toEqual({ key, value: setting.default })
    }
  })

  test('gives every setting a variable of its own', () => {
    expect(new Set(settings.map(([key]) => variableOf(key))).size).toBe(settings.length)
  })
})

describe('what is refused', () => {
  test('an unknown key, with the known ones, wherever it stands', async () => {
    const unknown = refusal(() => resolveConfig({ arguments: { 'http.prot': 1 } }))
    expect(unknown).toMatchObject({ code: 'CMESH_CONFIG_UNKNOWN', detail: { key: 'http.prot' } })
    for (const [key] of settings) expect(unknown.message).toContain(key)
    const file = await fileWith('{"__proto__": 1}')
    expect(refusal(() => resolveConfig({ file }))).toMatchObject({ code: 'CMESH_CONFIG_UNKNOWN', detail: { key: '__proto__' } })
    expect(refusal(() => resolveConfig({ arguments: { toString: 1 } }))).toMatchObject({ code: 'CMESH_CONFIG_UNKNOWN' })
  })

  test('an unknown CMESH_ variable, with the known ones; other variables and those of the client are left alone', () => {
    const unknown = refusal(() => resolveConfig({ env: { CMESH_HTTP_PROT: '1' } }))
    expect(unknown).toMatchObject({ code: 'CMESH_CONFIG_UNKNOWN', detail: { key: 'CMESH_HTTP_PROT' } })
    for (const [key] of settings) expect(unknown.message).toContain(variableOf(key))
    expect(attempt(() => resolveConfig({ env: { HTTP_PROT: '1', CMESH_URL: 'nats://a', CMESH_CONFIG_DIR: '/c', CMESH_CONFIG: 'f' } })).refusal).toBeUndefined()
  })

  test.each(settings.flatMap(([key, setting]) => {
    const wrong: Record<Setting['kind'], readonly unknown[]> = {
      text: [1, true, ['a'], {}],
      flag: ['yes', 'TRUE', 2, [], {}],
      choice: ['OS', 'fsync', 1, true, ['os']],
      number: ['one', '1e3', '0x10', ' 1', '1 ', '-1', '1.5', 1.5, Infinity, Number.NaN, true, [1], ...(setting.kind === 'number' ? [setting.min - 1, setting.max + 1, String(setting.max + 1)] : [])],
    }
    return [[key, setting.kind, wrong[setting.kind]] as const]
  }))('%s: any value that is no %s of its range, with the reason', (key, kind, values) => {
    for (const value of values) {
      const { code, detail, message } = refusal(() => resolveConfig({ arguments: { [key]: value } }))
      expect({ value, code, key: detail['key'] }).toEqual({ value, code: 'CMESH_CONFIG_INVALID', key })
      const setting = SETTINGS[key]
      if (setting.kind === 'number') expect(message).toBe(`The setting ${key} is not valid: it is a whole number from ${setting.min} to ${setting.max} (${setting.unit}).`)
      else if (setting.kind === 'choice') expect(message).toBe(`The setting ${key} is not valid: it is one of ${setting.choices.join(', ')}.`)
      else expect(message).toMatch({ text: /it is a text/, flag: /it is true or false/ }[kind as 'text'])
    }
  })

  test.each([
    ['noise', 'it begins with a DID and "="'],
    ['did:key:z=read 0xC:>', 'it begins with a DID and "="'],
    [DID, 'it begins with a DID and "="'],
    [`${DID}=`, 'it has the form "action,action pattern"'],
    [`${DID}=dig 0xC:>`, '"dig" is no action; there are read, write, exec, deploy, proxy, replace, peer'],
    [`${DID}=read 0xC:>|read 0xQ:>`, 'a pattern begins with an opcode, "*" or ">"'],
    [`${DID}=read 0xC:>;${DID}=read 0xS:>`, 'its DID has an entry already'],
  ])('grants that say nothing: %s', (text, reason) => {
    expect(refusal(() => resolveConfig({ env: { CMESH_IAM_GRANTS: text } }))).toMatchObject({
      code: 'CMESH_CONFIG_INVALID', message: `The setting iam.grants is not valid: ${reason}.`,
    })
  })

  test('an operator that is no DID, from the environment or a file, before anything is made for it', async () => {
    const message = 'The setting operator is not valid: a DID begins with did:key:z.'
    expect(refusal(() => resolveConfig({ env: { CMESH_OPERATOR: 'me' } }))).toMatchObject({ code: 'CMESH_CONFIG_INVALID', message })
    const file = await fileWith('{"operator": "me"}')
    expect(refusal(() => resolveConfig({ file }))).toMatchObject({ code: 'CMESH_CONFIG_INVALID', message })
    expect(resolveConfig({ env: { CMESH_OPERATOR: DID } }).operator).toBe(DID)
  })

  test.each([
    ['CMESH_IAM_IRMA_URL', 'http://irma.example', 'it must be https, or http to this machine'],
    ['CMESH_IAM_IRMA_REQUESTOR', 'two words', 'it is 1 to 64 letters, digits, dots, underscores, @ and hyphens'],
    ['CMESH_IAM_IRMA_KEY', 'c2hvcnQ=', 'it is neither an RSA key in PEM nor base64 of at least 32 bytes'],
    ['CMESH_IAM_IRMA_SERVER_KEY', 'none', 'it is no RSA key of at least 2048 bits in PEM'],
    ['CMESH_IAM_IRMA_DISCLOSE', '[[[]]]', 'it asks for nothing that cannot be left out'],
  ])('a setting of irma that means nothing: %s', (variable, text, reason) => {
    expect(refusal(() => resolveConfig({ env: { [variable]: text } })).detail['reason']).toBe(reason)
  })

  test.each([
    ['is not there', undefined, /ENOENT|it cannot be read/],
    ['is no JSON', '{', /JSON/],
    ['holds no object', '[1]', /it holds no JSON object/],
    ['holds null', 'null', /it holds no JSON object/],
  ])('a file that %s', async (_, text, reason) => {
    const file = text === undefined ? path.join(dir, 'missing.json') : await fileWith(text)
    const { code, detail, message } = refusal(() => resolveConfig({ file }))
    expect({ code, key: detail['key'] }).toEqual({ code: 'CMESH_CONFIG_INVALID', key: file })
    expect(message).toMatch(reason)
  })
})

describe('what comes out', () => {
  test('is frozen, and the objects it was made of are as they were', () => {
    const given = Object.freeze({ 'http.port': '9' })
    const env = Object.freeze({ CMESH_LOG_LEVEL: 'warn' })
    const config = resolveConfig({ arguments: given, env })
    expect(Object.isFrozen(config)).toBe(true)
    expect(config['http.port']).toBe(9)
    expect([given, env]).toEqual([{ 'http.port': '9' }, { CMESH_LOG_LEVEL: 'warn' }])
  })
})

describe('a provider that nobody knows', () => {
  test.each(Object.keys(REGISTRY) as ProviderKind[])('of %s is refused with the known ones', kind => {
    for (const name of ['nothing', 'toString', '']) {
      expect(refusal(() => createProvider(kind, name, {} as ProviderContext))).toMatchObject({
        code: 'CMESH_CONFIG_PROVIDER',
        message: `There is no ${kind} provider ${name}. Known: ${Object.keys(REGISTRY[kind]).join(', ')}.`,
      })
    }
  })
})
