/** The layers of a receipt as a tree: the router's comes last and spans the others, so it is the root, and they are its branches. */
export interface TreeRow {
  /** Which layer stands in the row. */
  readonly at: number
  /** What is drawn in front of it. */
  readonly branch: string
}

export function hopTree(layers: number): TreeRow[] {
  const last = layers - 1
  return Array.from({ length: layers }, (_, row) => (
    row === 0 ? { at: last, branch: '' } : { at: row - 1, branch: row === last ? '└─ ' : '├─ ' }
  ))
}
