/**
 * State in memory: what the process held is gone with it. It encodes and chains every block as a durable store does, so
 * heads compare, and keeps no bytes.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Block, OpenReport, Space, StateHead, StateStore } from '../../services/state/provider.ts'
import { StateImage } from './image.ts'

export interface MockStateOptions {
  /** Called once when a commit failed and the store takes no more. Must not throw. */
  readonly onFailed?: (error: CMeshError) => void
}

export class MockStateStore implements StateStore {
  readonly durability = 'memory'
  readonly #image = new StateImage()
  readonly #onFailed: ((error: CMeshError) => void) | undefined
  #open: Promise<OpenReport> | undefined
  #closed = false
  #failure: CMeshError | undefined

  constructor(options: MockStateOptions = {}) {
    this.#onFailed = options.onFailed
  }

  open(): Promise<OpenReport> {
    if (this.#closed) return Promise.reject(halted('the store is closed'))
    this.#open ??= Promise.resolve({ head: this.head, replayed: 0, openMs: 0 })
    return this.#open
  }

  get head(): StateHead {
    return this.#image.head
  }

  space(name: string): Space {
    return this.#image.space(name)
  }

  spaces(): Iterable<string> {
    return this.#image.spaces()
  }

  commit(block: Block): Promise<void> {
    if (this.#open === undefined) return Promise.reject(halted('the store is not open'))
    if (this.#closed) return Promise.reject(halted('the store is closed'))
    if (this.#failure !== undefined) return Promise.reject(halted(`a commit failed before (${this.#failure.code})`))
    try {
      this.#image.append(block)
      return Promise.resolve()
    } catch (thrown) {
      this.#failure = CMeshError.from(thrown, 'mock state')
      this.#onFailed?.(this.#failure)
      return Promise.reject(this.#failure)
    }
  }

  flush(): Promise<void> {
    return this.#failure === undefined ? Promise.resolve() : Promise.reject(this.#failure)
  }

  close(): Promise<void> {
    this.#closed = true
    return Promise.resolve()
  }
}

function halted(reason: string): CMeshError {
  return new CMeshError('CMESH_STATE_HALTED', { reason })
}
