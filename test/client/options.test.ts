import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { connect, type ConnectOptions } from '../../client/connect.ts'
import { locateMesh, readDescriptor } from '../../client/descriptor.ts'
import { checkOptions, REQUEST_CHECKS, resolveConnectionDefaults, resolveRequestDefaults } from '../../client/options.ts'

describe('options', () => {
  test('a key that is not known is refused with the known ones', async () => {
    await expect(connect({ ulr: 'nats://127.0.0.1:1' } as ConnectOptions)).rejects.toMatchObject({
      code: 'CMESH_CLIENT_USAGE',
      message: expect.stringMatching(/^connect has no option ulr\. Known: url, dataDir, identity, /),
    })
  })

  test.each([
    [{ timeoutMs: 0 }, 'The option timeoutMs of connect must be an integer from 1 to 300000.'],
    [{ timeoutMs: 1.5 }, 'The option timeoutMs of connect must be an integer from 1 to 300000.'],
    [{ receipt: 'some' }, 'The option receipt of connect must be hash, none or full.'],
    [{ resendMs: 49 }, 'The option resendMs of connect must be an integer from 50 to 300000.'],
    [{ retry: 1 }, 'The option retry of connect must be true or false.'],
    [{ url: '' }, 'The option url of connect must be a text that is not empty.'],
    [{ maxInFlight: 1_048_577 }, 'The option maxInFlight of connect must be an integer from 1 to 1048576.'],
  ])('%j is refused', async (options, message) => {
    await expect(connect(options as ConnectOptions)).rejects.toMatchObject({ code: 'CMESH_CLIENT_USAGE', message })
  })

  test('a prototype key is no option', () => {
    expect(() => checkOptions('x', JSON.parse('{"__proto__": 1, "toString": 2}') as object, REQUEST_CHECKS)).toThrow('x has no option __proto__.')
  })

  test('what was resolved is frozen and the caller\'s object is untouched', () => {
    const given = { timeoutMs: 7, receipt: undefined }
    const resolved = resolveRequestDefaults(given)
    expect(resolved).toEqual({ timeoutMs: 7, receipt: 'hash', retry: true, resendMs: 1_000, throwOnError: true })
    expect(Object.isFrozen(resolved)).toBe(true)
    expect(given).toEqual({ timeoutMs: 7, receipt: undefined })
    expect(resolveConnectionDefaults({})).toEqual({ name: 'cmesh client', connectTimeoutMs: 5_000, maxInFlight: 65_536, drainMs: 5_000, coalesce: true })
  })
})

describe('where the mesh is', () => {
  let dir: string
  const descriptor = { url: 'nats://127.0.0.1:4999', did: 'did:key:zX', node: 'n', http: 'http://127.0.0.1:1', version: '0.1.0', pid: 7 }
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'cmesh-descriptor-'))
    await writeFile(join(dir, 'mesh.json'), JSON.stringify(descriptor))
  })
  afterAll(() => rm(dir, { recursive: true, force: true }))

  test('an argument comes before the environment, the environment before the descriptor', async () => {
    const env = { CMESH_URL: 'nats://env:1', CMESH_DATA_DIR: dir }
    expect((await locateMesh({ url: 'nats://argument:1' }, env)).url).toBe('nats://argument:1')
    expect((await locateMesh({}, env)).url).toBe('nats://env:1')
    expect(await locateMesh({}, { CMESH_DATA_DIR: dir })).toEqual({ url: descriptor.url, descriptor })
  })

  test('a data directory that is named comes before CMESH_URL', async () => {
    expect((await locateMesh({ dataDir: dir }, { CMESH_URL: 'nats://env:1' })).url).toBe(descriptor.url)
  })

  test('a directory without a descriptor says which file is missing and what to do', async () => {
    const path = join(dir, 'none')
    await expect(locateMesh({ dataDir: path })).rejects.toMatchObject({
      code: 'CMESH_CLIENT_NO_MESH',
      message: `No mesh answers at ${join(path, 'mesh.json')}: there is no descriptor of a running mesh. Start one with \`cmesh up\`, or say where it is by --data, --url or CMESH_URL.`,
    })
  })

  test.each([['{', 'the descriptor is not JSON'], ['{"url": 1}', 'the descriptor lacks url, did, node, http, version or pid'], ['null', 'the descriptor lacks']])(
    'a descriptor %s is refused', async (text, reason) => {
      const bad = await mkdtemp(join(dir, 'bad-'))
      await writeFile(join(bad, 'mesh.json'), text)
      await expect(readDescriptor(bad)).rejects.toMatchObject({ code: 'CMESH_CLIENT_NO_MESH', message: expect.stringContaining(reason) })
    })
})
