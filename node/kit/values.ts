/** Arguments and results as they cross to a contract: JSON, numbers beyond ±(2^53 − 1) as texts. */

/** What an argument may be: anything JSON has, a bigint, an identity (its DID), a contract (its address). */
export type Argument = string | number | bigint | boolean | null | readonly Argument[] | { readonly [key: string]: Argument } | { toJSON(): string }

export function encodeArguments(args: readonly Argument[]): Buffer {
  return args.length === 0 ? Buffer.alloc(0) : Buffer.from(JSON.stringify(args, (_, value: unknown) => (typeof value === 'bigint' ? value.toString() : value)))
}

/** The JSON value of an output or of an event's data, the text where it is none, `null` for nothing. */
export function decodeValue(bytes: Uint8Array): unknown {
  const text = Buffer.from(bytes).toString('utf8')
  if (text === '') return null
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}
