/** Tables for a person to read: box characters where one looks, plain columns elsewhere. Cells may carry colours. */
import { stripVTControlCharacters } from 'node:util'

export interface TableOptions {
  /** Draw boxes. */
  readonly boxes: boolean
  readonly title?: string
  readonly head?: readonly string[]
  /** Columns that are set to the right, by index. */
  readonly right?: readonly number[]
}

/** The lines of a table. Every row has as many cells as the longest; missing ones are empty. */
export function table(rows: readonly (readonly string[])[], options: TableOptions): string[] {
  const { boxes, title, head, right = [] } = options
  const all = head === undefined ? rows : [head, ...rows]
  const count = Math.max(0, ...all.map((row) => row.length))
  const widths = Array.from({ length: count }, (_, i) => Math.max(0, ...all.map((row) => widthOf(row[i] ?? ''))))
  const line = (row: readonly string[]): string[] => widths.map((width, i) => {
    const cell = row[i] ?? ''
    const space = ' '.repeat(width - widthOf(cell))
    return right.includes(i) ? space + cell : cell + space
  })
  if (!boxes) {
    return [
      ...(title === undefined ? [] : [title]),
      ...all.map((row) => `  ${line(row).join('  ')}`.trimEnd()),
    ]
  }
  const rule = (left: string, middle: string, end: string): string => left + widths.map((width) => '─'.repeat(width + 2)).join(middle) + end
  const boxed = (row: readonly string[]): string => `│ ${line(row).join(' │ ')} │`
  return [
    ...(title === undefined ? [] : [title]),
    rule('┌', '┬', '┐'),
    ...(head === undefined ? [] : [boxed(head), rule('├', '┼', '┤')]),
    ...rows.map(boxed),
    rule('└', '┴', '┘'),
  ]
}

/** Columns a text takes: colours take none. */
function widthOf(text: string): number {
  // Code points: everything printed here is one column wide each.
  return Array.from(stripVTControlCharacters(text)).length
}
