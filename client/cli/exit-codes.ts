/** What the process ends with, and which error means which. Documented in `cmesh --help` and `docs/cli.md`. */
import { CMeshError } from '../../cmtp/errors.ts'

export const EXIT = Object.freeze({ ok: 0, refused: 1, usage: 2, unreachable: 3, internal: 4, interrupted: 130 })

export const EXIT_HELP = `Exit codes:
  0    done
  1    the request was refused (status 4xx)
  2    the command line is wrong
  3    the mesh cannot be reached or failed (status 5xx)
  4    an unexpected failure of cmesh itself
  130  interrupted`

/** Ends a command whose failure was shown already. */
export class Reported extends Error {
  override readonly name = 'Reported'
  readonly exitCode: number

  constructor(exitCode: number) {
    super('already reported')
    this.exitCode = exitCode
  }
}

/** Codes that are about what the user typed, or the file that was named, wherever they were noticed. */
const USAGE: ReadonlySet<string> = new Set([
  'CMESH_CLIENT_USAGE', 'CMESH_CLIENT_FILE', 'CMESH_CONFIG_INVALID', 'CMESH_CONFIG_UNKNOWN', 'CMESH_CONFIG_PROVIDER', 'CMESH_BROKER_ACCOUNTS',
  'CMESH_RECEIPT_FORMAT',
])

export function exitCodeOf(error: unknown): number {
  if (error instanceof Reported) return error.exitCode
  if (!(error instanceof CMeshError)) return EXIT.internal
  if (error.code === 'CMESH_CLIENT_ABORTED') return EXIT.interrupted
  if (USAGE.has(error.code)) return EXIT.usage
  if (error.status < 500) return EXIT.refused
  // A bug on the other side came over the wire and names it; any other is one of this process.
  return error.code === 'CMESH_INTERNAL' && error.cause instanceof Error ? EXIT.internal : EXIT.unreachable
}

/** What to do about it, where there is something to do that the message does not say. */
export function hintOf(error: CMeshError): string | undefined {
  switch (error.code) {
    case 'CMESH_REGISTRAR_TAKEN': return 'Its owner can change it by `cmesh name update`; `cmesh resolve` shows the record.'
    case 'CMESH_REGISTRAR_NOT_FOUND': return 'Claim it with `cmesh register <name> <fqmn>`.'
    case 'CMESH_FQMN_SYNTAX': case 'CMESH_FQMN_OPCODE': return 'An address looks like 0xS:0x001:hello_world; quote it if it has brackets.'
    case 'CMESH_STATE_NO_FUNCTION': return '`cmesh contract inspect` lists the functions of a contract.'
    case 'CMESH_DEPLOY_IMMUTABLE': return 'Only what was deployed with --replaceable can be replaced, by its deployer; other code needs an address of its own.'
    case 'CMESH_DEPLOY_EXISTS': return 'The same package by the same deployer has the same address; another --salt gives another.'
    case 'CMESH_IAM_DENIED': return 'An operator lets you by `cmesh authz grant`, or from the start by iam.grants; what you were granted counts from your next `cmesh login` on.'
    default: return undefined
  }
}
