/** What `readModule` found in a module: every part that the rewriter and the engine need, and nothing interpreted. */

/** A range of bytes of the module, `to` excluded. */
export interface ByteRange {
  readonly from: number
  readonly to: number
}

export interface FunctionType {
  /** Value types as in the binary format. */
  readonly parameters: readonly number[]
  readonly results: readonly number[]
  /** Such as `(i32, i32) -> (i32)`. */
  readonly signature: string
}

export interface ImportShape {
  readonly module: string
  readonly name: string
  readonly signature: string
}

export interface ExportShape {
  readonly kind: 'function' | 'table' | 'memory' | 'global'
  readonly index: number
  /** Of a function. */
  readonly signature: string | undefined
}

export interface GlobalShape {
  readonly type: number
  readonly mutable: boolean
}

export interface SectionShape extends ByteRange {
  readonly id: number
}

export interface CustomSection extends ByteRange {
  readonly name: string
}

export interface ModuleShape {
  readonly wasm: Uint8Array
  readonly types: readonly FunctionType[]
  readonly imports: readonly ImportShape[]
  /** Index of the type of each function, the imported ones first. */
  readonly functions: readonly number[]
  /** In pages of 64 KiB; `maximum` never above the limit. */
  readonly memory: { readonly initial: number, readonly maximum: number }
  readonly globals: readonly GlobalShape[]
  readonly exports: ReadonlyMap<string, ExportShape>
  /** Index of the start function. */
  readonly start: number | undefined
  /** Functions that the element segments name together. */
  readonly elements: number
  /** Of each function of the module itself, from its locals on. */
  readonly bodies: readonly ByteRange[]
  /** All but the custom ones, from their contents on, in the order of the module. */
  readonly sections: readonly SectionShape[]
  readonly customSections: readonly CustomSection[]
}

/** Copies of the contents of the custom sections of that name. */
export function customSections(shape: ModuleShape, name: string): Uint8Array[] {
  return shape.customSections.filter((section) => section.name === name).map(({ from, to }) => shape.wasm.slice(from, to))
}
