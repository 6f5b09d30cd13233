/** Memory that is written over for each message, and views of it by length: a fresh view costs more than a small hash. For one thread. */
export class Scratch {
  readonly bytes: Buffer
  readonly #views: (Buffer | undefined)[] = []

  /** Begins with the byte `prefix`, where one is given. */
  constructor(length: number, prefix = 0) {
    this.bytes = Buffer.allocUnsafeSlow(length)
    this.bytes[0] = prefix
  }

  view(length: number): Buffer {
    if (length >= 4096) return this.bytes.subarray(0, length)
    return (this.#views[length] ??= this.bytes.subarray(0, length))
  }
}
