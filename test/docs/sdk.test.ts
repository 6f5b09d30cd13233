/** `docs/sdk.md`: its blocks are run in order as one program on a real node; what it says of options and methods exists. */
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { MeshClient } from '../../client/mesh-client.ts'
import { MeshVerbs } from '../../client/mesh-verbs.ts'
import { CliHome } from '../client/support/cli-process.ts'
import { ROOT } from '../support/sources.ts'

const page = await readFile(join(ROOT, 'docs', 'sdk.md'), 'utf8')
const blocks = [...page.matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => code as string)

describe('docs/sdk.md', () => {
  let home: CliHome
  beforeAll(async () => {
    home = await CliHome.make()
    await home.start(['up']).printed('Ctrl-C drains')
  })
  afterAll(() => home.close())

  test('is a program that runs', async () => {
    const file = join(home.directory, 'program.mjs')
    const sdk = pathToFileURL(join(ROOT, 'dist', 'client', 'index.js')).href
    await writeFile(file, blocks.join('\n').replace('\'cmesh\'', `'${sdk}'`))
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [file], { cwd: ROOT, env: home.env })
    expect(stderr).toBe('')
    for (const line of ['200 Hello, Dexter', 'true', 'state allowed', '404 CMESH_REGISTRAR_NOT_FOUND', '[ 200, 404 ]', '0xS:0x001:hello_world true 1', 'hello']) {
      expect(stdout).toContain(line)
    }
  })

  test('shows every method of the client but those that need no words', () => {
    const shown = new Set([...page.matchAll(/client\.(\w+)/g)].map(([, name]) => name))
    const internal = new Set(['constructor', 'endSubscriptions'])
    const methods = [MeshClient, MeshVerbs].flatMap(({ prototype }) => Object.getOwnPropertyNames(prototype)).filter((name) => !internal.has(name))
    const understood = ['url', 'connection', 'pending', 'transfer', 'renew', 'whoami', 'status']
    expect(methods.filter((name) => !shown.has(name) && !understood.includes(name))).toEqual([])
    expect([...shown].filter((name) => !methods.includes(name as string))).toEqual([])
  })
})
