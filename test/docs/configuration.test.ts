/** `docs/configuration.md` says of each setting what the node's table says. */
import { readFile } from 'node:fs/promises'
import { expect, test } from '@jest/globals'
import { variableOf } from '../../node/config.ts'
import { SETTINGS, type Setting } from '../../node/settings.ts'
import { REGISTRY } from '../../providers/registry.ts'
import { cell, docTable } from '../support/doc-table.ts'

test('docs/configuration.md lists every setting with its variable, values, default and meaning', async () => {
  const rows = Object.entries(SETTINGS).map(([key, setting]) => [`\`${key}\``, `\`${variableOf(key)}\``, values(setting), standard(setting), cell(setting.doc)])
  const { written, expected } = await docTable('configuration.md', 'settings', ['setting', 'variable', 'values', 'default', 'meaning'], rows)
  expect(written).toBe(expected)
})

test('docs/configuration.md names every provider that can be chosen', async () => {
  const page = await readFile(new URL('../../docs/configuration.md', import.meta.url), 'utf8')
  const listed = Object.fromEntries([...page.matchAll(/^\| (\w+) \| `\w+\.[^|]* \| (.*) \|$/gm)].map(([, kind = '', names = '']) => [
    kind, names.split('; ').map(name => /^`(\w+)`/.exec(name)?.[1]).sort(),
  ]))
  expect(listed).toEqual(Object.fromEntries(Object.entries(REGISTRY).map(([kind, known]) => [kind, Object.keys(known).sort()])))
})

function values(setting: Setting): string {
  switch (setting.kind) {
    case 'text': return 'text'
    case 'flag': return '`true`, `false`'
    case 'choice': return setting.choices.map(choice => `\`${choice}\``).join(', ')
    case 'number': return `${grouped(setting.min)} to ${grouped(setting.max)} ${setting.unit}`
  }
}

function standard({ kind, default: value }: Setting): string {
  if (value === undefined) return '–'
  return kind === 'number' ? grouped(value) : `\`${value}\``
}

function grouped(value: number): string {
  return value.toLocaleString('en')
}
