/** `docs/dependencies.md` gives a reason for each package of package.json, at the version that is used, and for no other. */
import { readFile } from 'node:fs/promises'
import { describe, expect, test } from '@jest/globals'

const root = new URL('../../', import.meta.url)

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>
  readonly devDependencies: Readonly<Record<string, string>>
}

describe('docs/dependencies.md', () => {
  test.each([
    ['dependencies', 'At run time'],
    ['devDependencies', 'For development'],
  ] as const)('lists the %s of package.json with their versions and four filled cells each', async (kind, heading) => {
    const manifest = JSON.parse(await readFile(new URL('package.json', root), 'utf8')) as Manifest
    const rows = tableUnder(await readFile(new URL('docs/dependencies.md', root), 'utf8'), heading)
    expect(Object.fromEntries(rows.map(([name, version]) => [name, version]))).toEqual(manifest[kind])
    for (const row of rows) expect({ package: row[0], empty: row.filter(cell => cell === '').length, cells: row.length }).toEqual({ package: row[0], empty: 0, cells: 5 })
  })

  test('package.json pins each version exactly', async () => {
    const { dependencies, devDependencies } = JSON.parse(await readFile(new URL('package.json', root), 'utf8')) as Manifest
    expect(Object.entries({ ...dependencies, ...devDependencies }).filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([])
  })
})

/** The rows of the first table under a heading, without backquotes. */
function tableUnder(page: string, heading: string): string[][] {
  const section = page.split(/^## /m).find(text => text.startsWith(`${heading}\n`)) ?? ''
  const rows = section.split('\n').filter(line => line.startsWith('| '))
  return rows.slice(2).map(line => line.slice(2, -2).split(' | ').map(cell => cell.replaceAll('`', '').trim()))
}
