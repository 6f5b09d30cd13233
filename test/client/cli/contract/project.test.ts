import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { findProject, nameOf } from '../../../../client/cli/contract/project.ts'
import { scaffold } from '../../../../client/cli/contract/scaffold.ts'
import { ROOT } from '../../../support/sources.ts'

let dir: string
beforeAll(async () => { dir = await mkdtemp(join(tmpdir(), 'cmesh-project-')) })
afterAll(() => rm(dir, { recursive: true, force: true }))

async function made(files: Readonly<Record<string, string>>): Promise<string> {
  const directory = await mkdtemp(join(dir, 'made-'))
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text)
  return directory
}

describe('a project', () => {
  test('is called as its package.json says, without the scope', async () => {
    const directory = await made({ 'index.ts': '', 'package.json': '{"name": "@me/token", "version": "2.1.0"}' })
    expect(await findProject(directory)).toEqual({
      directory, entry: join(directory, 'index.ts'), build: join(directory, 'build'), name: 'token', version: '2.1.0',
    })
  })

  test('without a package.json is called as its directory', async () => {
    await mkdir(join(dir, 'counter'), { recursive: true })
    await writeFile(join(dir, 'counter', 'index.ts'), '')
    expect(await findProject(join(dir, 'counter'))).toMatchObject({ name: 'counter', version: '0.1.0' })
  })

  test('may be one file, which is called as the file', async () => {
    const directory = await made({ 'index.ts': '', 'token.ts': '', 'package.json': '{"name": "other"}' })
    expect(await findProject(join(directory, 'token.ts'))).toMatchObject({ directory, name: 'token', entry: join(directory, 'token.ts') })
  })

  test.each<[string, Readonly<Record<string, string>>, RegExp]>([
    ['', {}, /There is no contract in \S+: it has no index\.ts\. `cmesh contract new NAME` makes one\./],
    ['nowhere', {}, /There is no \S+nowhere\. `cmesh contract new NAME` makes a contract\./],
    ['a.txt', { 'a.txt': '' }, /a\.txt is neither a directory nor a \.ts file\./],
    ['', { 'index.ts': '', 'package.json': '{' }, /package\.json is not JSON\./],
  ])('%j of %j is refused with the reason', async (path, files, message) => {
    await expect(findProject(join(await made(files), path))).rejects.toMatchObject({ code: 'CMESH_CLIENT_USAGE', message: expect.stringMatching(message) })
  })

  test('a module is called as its file', () => {
    expect([nameOf('a/token.wasm'), nameOf('a/guestbook/index.ts')]).toEqual(['token', 'guestbook'])
  })
})

describe('a scaffold', () => {
  test('has every file of the template under its name, and no placeholder left', async () => {
    const target = join(dir, 'scaffold')
    const files = await scaffold('my-counter', target)
    expect(files).toEqual(['.gitignore', 'README.md', 'gas.mjs', 'index.ts', 'package.json', 'test/contract.test.js', 'tsconfig.json'])
    const texts = await Promise.all(files.map((file) => readFile(join(target, file), 'utf8')))
    for (const text of texts) expect(text).not.toMatch(/__[A-Z]+__/)
    const manifest = JSON.parse(texts[files.indexOf('package.json')] as string) as { name: string, devDependencies: { cmesh: string } }
    expect(manifest.name).toBe('my-counter')
    expect(join(target, manifest.devDependencies.cmesh.replace(/^file:/, ''))).toBe(ROOT.replace(/\/$/, ''))
    expect(await findProject(target)).toMatchObject({ name: 'my-counter', version: '0.1.0' })
  })

  test('overwrites nothing', async () => {
    const target = await made({ 'index.ts': 'mine' })
    await expect(scaffold('counter', target)).rejects.toMatchObject({
      code: 'CMESH_CLIENT_USAGE', message: `${target} has something in it already; give a new directory by --dir.`,
    })
    expect(await readdir(target)).toEqual(['index.ts'])
    expect(await readFile(join(target, 'index.ts'), 'utf8')).toBe('mine')
  })

  test.each(['', 'Token', '1st', 'a_b', '../a', 'a'.repeat(65)])('is not made under the name %j', async (name) => {
    await expect(scaffold(name, join(dir, 'never'))).rejects.toMatchObject({
      code: 'CMESH_CLIENT_USAGE', message: `${name} is no name for a contract: it has 1 to 64 lower-case letters, digits and -, and begins with a letter.`,
    })
    expect(await readdir(dir)).not.toContain('never')
  })
})
