/**
 * Recorded calls of a contract, as a dry run takes them: a JSON array of `{"function", "args", "caller"}`, or a request log, lines
 * `<FQMN>` or `<id>;<FQMN>` of which those of the contract are taken.
 */
import { parseFqmn } from '../../../cmtp/fqmn.ts'
import type { RecordedCall } from '../../deployment.ts'
import { usage } from '../../options.ts'
import { readInput } from '../input.ts'

/** At least one. Throws `CMESH_CLIENT_USAGE`, or `CMESH_FQMN_*` for a line that is no address. */
export async function readCalls(file: string, address: string): Promise<readonly RecordedCall[]> {
  const text = Buffer.from(await readInput(file)).toString('utf8').trim()
  const calls = text.startsWith('[') ? fromJson(file, text) : fromLog(text, address)
  // Who gives calls to compare must not take it that they were.
  if (calls.length === 0) throw usage(`${file === '-' ? 'Standard input' : file} has no call of ${address} to compare; without --calls the replacement alone is tried.`)
  return calls
}

function fromJson(file: string, text: string): readonly RecordedCall[] {
  let calls: unknown
  try {
    calls = JSON.parse(text)
  } catch {
    throw usage(`${file} is not JSON.`)
  }
  const fits = (call: unknown): boolean => typeof call === 'object' && call !== null && 'function' in call && typeof call.function === 'string'
  if (!Array.isArray(calls) || !calls.every(fits)) throw usage(`${file} is no list of calls, such as [{"function": "transfer", "args": ["did:key:z6Mk…", 5]}].`)
  return calls as RecordedCall[]
}

function fromLog(text: string, address: string): readonly RecordedCall[] {
  return text.split('\n').filter((line) => line.trim() !== '').flatMap((line): RecordedCall[] => {
    const { service, segments: [contract, name], args } = parseFqmn(line.slice(line.indexOf(';') + 1).trim())
    if (service !== 'S' || contract !== address || name === undefined) return []
    return [{ function: name, ...(args !== undefined && { args: JSON.parse(args) as unknown[] }) }]
  })
}
