/** How a failure is shown: one line with its code on stderr, a hint where there is one, and with `--json` a document on stdout. */
import { types } from 'node:util'
import { CMeshError } from '../../cmtp/errors.ts'
import { hintOf } from './exit-codes.ts'
import { durationText } from './moment.ts'
import type { Terminal } from './terminal.ts'

export function printError(terminal: Terminal, error: CMeshError): void {
  terminal.note(`${terminal.styleNote('red', 'error')} ${error.code}: ${shownMessage(error)}`)
  const hint = hintOf(error)
  if (hint !== undefined) terminal.note(`${terminal.styleNote('dim', 'hint')} ${hint}`)
}

/**
 * The message as a person reads it. Of a delayed call that is refused the text stands in the block, the same on every member and in every replay of it,
 * and so in ms for ever; the document for a script has it as it is there.
 */
function shownMessage({ code, message }: CMeshError): string {
  return code === 'CMESH_STATE_LATER' ? message.replace(/\b(\d{4,15}) ms\b/g, (_, ms) => durationText(Number(ms))) : message
}

/** What a failure is for a script. */
export function failureDocument({ code, message, status, retry, detail }: CMeshError): object {
  return { error: { code, message, status, retry, detail } }
}

/** Calls of the file system. A program that cannot be started, and an address that cannot be reached, say theirs in the same way. */
const OF_FILES: ReadonlySet<string> = new Set([
  'access', 'chmod', 'copyfile', 'link', 'lstat', 'mkdir', 'mkdtemp', 'open', 'opendir', 'read', 'readlink', 'realpath', 'rename', 'rm', 'rmdir', 'scandir', 'stat', 'symlink', 'unlink',
])

/** What the system refuses of a file is no failure of cmesh, but one of the path that it was given. Anything else as it is. */
export function ofFile(thrown: unknown): unknown {
  if (!types.isNativeError(thrown)) return thrown
  const { code, path, syscall = '', message } = thrown as NodeJS.ErrnoException
  if (code === undefined || path === undefined || !OF_FILES.has(syscall)) return thrown
  // `ENOENT: no such file or directory, open '…'`
  const said = /^[A-Z0-9]+: (.+?), /.exec(message)?.[1] ?? syscall
  return new CMeshError('CMESH_CLIENT_FILE', { path, reason: `${said} (${code})` }, { cause: thrown })
}

/** Shows whatever was thrown. `json`: the command was asked for a document, and a failure is one too. */
export function printFailure(terminal: Terminal, thrown: unknown, json: boolean): void {
  const error = CMeshError.from(thrown, 'cmesh')
  if (json) terminal.printJson(failureDocument(error))
  printError(terminal, error)
  // A failure of cmesh itself is worth its stack; of anything else the message says enough.
  if (!(thrown instanceof CMeshError) && thrown instanceof Error && thrown.stack !== undefined) terminal.note(thrown.stack)
}
