/**
 * Tables in the docs that are held equal to the code. A table stands between `<!-- table: name -->` and `<!-- end -->`;
 * `UPDATE_DOCS=1 npm test -- test/docs` writes what the code says into it.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

export interface DocTable {
  /** What stands in the page now. */
  readonly written: string
  /** What the code says should stand there. */
  readonly expected: string
}

/** Compares a table of `docs/<page>`, or writes it when updates are asked for. Throws when the page has no such table. */
export async function docTable(
  page: string, name: string, head: readonly string[], rows: readonly (readonly string[])[],
): Promise<DocTable> {
  const file = fileURLToPath(new URL(`../../docs/${page}`, import.meta.url))
  const text = await readFile(file, 'utf8')
  const open = `<!-- table: ${name} -->\n`
  const start = text.indexOf(open) + open.length
  const end = text.indexOf('<!-- end -->', start)
  if (start < open.length || end < 0) throw new Error(`docs/${page} has no table "${name}"`)
  const expected = [head, head.map(() => '---'), ...rows].map(cells => `| ${cells.join(' | ')} |\n`).join('')
  const written = text.slice(start, end)
  if (process.env['UPDATE_DOCS'] !== '1' || written === expected) return { written, expected }
  await writeFile(file, `${text.slice(0, start)}${expected}${text.slice(end)}`)
  return { written: expected, expected }
}

/** Text as a cell of a table. */
export function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ')
}
