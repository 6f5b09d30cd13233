/**
 * The arguments of one view after the other as bytes, without memory of their own for each: they stand where those of the view before stood.
 * Whoever runs a view is done with them when it returns.
 */
import { LIMITS } from '../../cmtp/limits.ts'
import { argumentsOf, type Call } from '../call.ts'

/** Up to here there is one view of the bytes for each length. */
const SHORT = 128

export class ArgumentBytes {
  readonly #bytes = Buffer.alloc(LIMITS.fqmnBytes)
  readonly #short: Uint8Array[] = []

  /** Good until it is asked again. Throws `CMESH_FQMN_ARGUMENTS_TWICE`. */
  of(call: Pick<Call, 'route' | 'body'>): Uint8Array {
    const { args } = call.route
    if (args === undefined || call.body.length > 0) return argumentsOf(call)
    const length = this.#written(args)
    return length > SHORT ? this.#bytes.subarray(0, length) : this.#short[length] ??= this.#bytes.subarray(0, length)
  }

  /** Short ASCII, which is most, is written without a native call. */
  #written(args: string): number {
    const { length } = args
    if (length > SHORT) return this.#bytes.write(args)
    for (let i = 0; i < length; i++) {
      const unit = args.charCodeAt(i)
      if (unit > 0x7f) return this.#bytes.write(args)
      this.#bytes[i] = unit
    }
    return length
  }
}
