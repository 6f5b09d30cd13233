/** Both sides of the kit's process speak of the same operations. Held by the type check alone: a wrong line does not compile. */
import type { KitOperations } from '../../../client/cli/contract/kit-process.ts'
import type { Operations } from '../../../node/kit/protocol.ts'

type Same<A, B> = [A, B] extends [B, A] ? true : false
type Asks<O extends Record<keyof O, { readonly ask: unknown }>> = { readonly [K in keyof O]: O[K]['ask'] }
/** A client knows more of an ABI than a node checks; of all else the answers have the same fields. */
type Fields<O extends Record<keyof O, { readonly answer: unknown }>> = { readonly [K in keyof O]: keyof O[K]['answer'] }

export const sameAsks: Same<Asks<Operations>, Asks<KitOperations>> = true
export const sameAnswers: Same<Fields<Operations>, Fields<KitOperations>> = true
export const sameGas: Same<Operations['gas']['answer'], KitOperations['gas']['answer']> = true
