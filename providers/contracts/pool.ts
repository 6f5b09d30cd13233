/**
 * Instances that wait for their next call, several for one code where calls nest. Bounded by number and by memory: an instance
 * reserves gigabytes of address space for its guard pages, of which a process has enough for about 13,000.
 */
import type { ContractCode } from './code-store.ts'
import type { ContractInstance } from './instance.ts'

export interface PoolLimits {
  /** Most instances. */
  readonly instances: number
  /** Most memory of all instances together, in bytes. */
  readonly bytes: number
}

export class InstancePool {
  readonly #limits: PoolLimits
  /** All that were given back once and not dropped since, running ones too. */
  readonly #kept = new Set<ContractInstance>()
  #bytes = 0
  #uses = 0

  constructor(limits: PoolLimits) {
    this.#limits = limits
  }

  /** Instances held. */
  get size(): number {
    return this.#kept.size
  }

  /** An idle instance of the code, as good as new. */
  take(code: ContractCode): ContractInstance | undefined {
    const instance = code.idle.pop()
    instance?.reset()
    return instance
  }

  /** Takes an instance back, unless it cannot be used again. */
  give(instance: ContractInstance): void {
    if (!instance.reusable) {
      this.#forget(instance)
      return
    }
    instance.used = ++this.#uses
    instance.code.idle.push(instance)
    if (instance.pooled) return
    instance.pooled = true
    this.#kept.add(instance)
    this.#bytes += instance.bytes
    while (this.#kept.size > this.#limits.instances || this.#bytes > this.#limits.bytes) this.#dropOldest()
  }

  /** Drops what is idle of a code. */
  drop(code: ContractCode): void {
    for (const instance of code.idle.splice(0)) this.#forget(instance)
  }

  clear(): void {
    for (const instance of this.#kept) {
      instance.pooled = false
      instance.code.idle.length = 0
    }
    this.#kept.clear()
    this.#bytes = 0
  }

  /** Only when one was made, so that looking at all of them is no matter. There is an idle one, since one was just given back. */
  #dropOldest(): void {
    let oldest: ContractInstance | undefined
    for (const instance of this.#kept) {
      if (instance.code.idle.includes(instance) && (oldest === undefined || instance.used < oldest.used)) oldest = instance
    }
    if (oldest === undefined) return
    const { idle } = oldest.code
    idle.splice(idle.indexOf(oldest), 1)
    this.#forget(oldest)
  }

  #forget(instance: ContractInstance): void {
    if (!instance.pooled) return
    instance.pooled = false
    this.#kept.delete(instance)
    this.#bytes -= instance.bytes
  }
}
