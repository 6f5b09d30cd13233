/** The parts of Hypercore 11 and its storage that the state provider uses; the packages ship no types. */

declare module 'hypercore' {
  import type { EventEmitter } from 'node:events'

  export interface KeyPair {
    readonly publicKey: Uint8Array
    /** Seed ‖ public key, 64 bytes. */
    readonly secretKey: Uint8Array
  }

  export interface Manifest {
    readonly signers: readonly { readonly publicKey: Uint8Array }[]
  }

  /** A streamx `Readable`. */
  export interface BlockStream extends EventEmitter {
    on(event: 'data', listener: (entry: { readonly index: number, readonly value: Buffer }) => void): this
    on(event: 'error', listener: (error: Error) => void): this
    on(event: 'close', listener: () => void): this
    destroy(error?: Error): void
    /** Entries a read fetches at once, and what makes room for them: internals of `rocksdb-native`, so perhaps not there. */
    _capacity?: number
    _resize?(): void
  }

  export interface RocksDB {
    currentWalFile(): Promise<{ readonly number: number }>
  }

  export interface CoreStorage {
    readonly rocks: RocksDB
    getDefaultDiscoveryKey(): Promise<Uint8Array | null>
    close(): Promise<void>
  }

  /** The tree over the blocks, to be signed or checked. */
  export interface TreeBatch {
    hash(): Uint8Array
  }

  /** Collects what is to be read, until it is flushed; it has more than this. */
  export interface StorageReader {
    getBitfieldPage(index: number): Promise<Buffer | null>
    tryFlush(): void
    destroy(): void
  }

  export interface CoreState {
    readonly signature: Uint8Array | null
    createTreeBatch(): TreeBatch
    /** `read` is an internal of Hypercore's, so perhaps not there. */
    readonly storage: { createBlockStream(range: { readonly gte: number, readonly lt: number }): BlockStream, read?(fork?: number): StorageReader }
  }

  export interface CoreOptions {
    readonly createIfMissing: boolean
    readonly key?: Uint8Array
    readonly manifest?: Manifest
    readonly writable?: boolean
  }

  export default class Hypercore {
    static defaultStorage(directory: string, options: { readonly allowBackup: boolean, readonly readOnly?: boolean }): CoreStorage
    static key(manifest: Manifest): Uint8Array
    constructor(storage: CoreStorage, options: CoreOptions)
    readonly length: number
    readonly byteLength: number
    readonly state: CoreState
    readonly manifest: Manifest | null
    readonly core: {
      readonly verifier: { verify(tree: TreeBatch, signature: Uint8Array): boolean }
      /** What is written of the log beside its blocks. `contiguousLength`: up to where it has no hole. */
      readonly header: { readonly hints: { contiguousLength: number } }
      /** Which blocks are there; an internal. The page that a bit is in, as words. */
      readonly bitfield: { getBitfield(index: number): { readonly bitfield: Uint32Array } | null } | null
    }
    ready(): Promise<void>
    /** `postappend` is awaited once the blocks are written, before anybody is told. */
    append(blocks: readonly Uint8Array[], options: { readonly keyPair: KeyPair, readonly postappend?: () => undefined }): Promise<{ readonly length: number }>
    /** Without `wait` a block that is not there is `null`, and no peer is waited for. */
    get(index: number, options: { readonly wait: false }): Promise<Buffer | null>
    /** The hash over the roots of the tree of the first blocks. */
    treeHash(length: number): Promise<Uint8Array>
    close(): Promise<void>
  }
}

declare module 'hypercore-crypto' {
  import type { KeyPair } from 'hypercore'

  /** A node of the tree over the blocks, by its place in the flat tree. */
  export interface TreeNode {
    readonly index: number
    /** Bytes of the blocks below it. */
    readonly size: number
    readonly hash: Uint8Array
  }

  export function keyPair(seed?: Uint8Array): KeyPair
  export function sign(message: Uint8Array, secretKey: Uint8Array): Uint8Array
  /** False for a signature or a key of another length. */
  export function verify(message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean
  export function data(block: Uint8Array): Uint8Array
  export function parent(left: TreeNode, right: TreeNode): Uint8Array
  export function tree(roots: readonly TreeNode[]): Uint8Array
}
