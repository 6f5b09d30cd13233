/**
 * Where a command reads its surroundings and writes its results. Results go to stdout, everything else to stderr. It owns no
 * stream. Colours and moving lines appear on a terminal only, and never with `NO_COLOR` (no-color.org).
 */

export interface TerminalParts {
  readonly stdout: NodeJS.WritableStream & { readonly isTTY?: boolean, readonly columns?: number }
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean, readonly columns?: number }
  /** Where a person answers. Default: nobody does. */
  readonly stdin?: NodeJS.ReadableStream & { readonly isTTY?: boolean }
  readonly env: NodeJS.ProcessEnv
  /** Fires when the user interrupts. */
  readonly interrupted: AbortSignal
}

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan'

/** ECMA-48 SGR: what switches each on, and off again. */
const SGR: Record<Style, readonly [number, number]> = {
  bold: [1, 22], dim: [2, 22], red: [31, 39], green: [32, 39], yellow: [33, 39], cyan: [36, 39],
}

/** C0 and C1 controls and DEL, but for tab and line feed: what a terminal obeys instead of showing. */

const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g

export class Terminal {
  readonly env: NodeJS.ProcessEnv
  readonly interrupted: AbortSignal
  readonly #parts: TerminalParts
  readonly #plain: boolean

  constructor(parts: TerminalParts) {
    this.#parts = parts
    this.env = parts.env
    this.interrupted = parts.interrupted
    this.#plain = (parts.env['NO_COLOR'] ?? '') !== '' || parts.env['TERM'] === 'dumb'
  }

  /** Whether a person looks at the results. */
  get resultsAreSeen(): boolean {
    return this.#parts.stdout.isTTY === true
  }

  /** Whether a person looks at the messages, so that a line may move. */
  get messagesAreSeen(): boolean {
    return this.#parts.stderr.isTTY === true && this.#parts.env['TERM'] !== 'dumb'
  }

  /** Whether a person is there to ask. */
  get answers(): boolean {
    return this.#parts.stdin?.isTTY === true && this.#parts.stderr.isTTY === true
  }

  get columns(): number {
    return this.#parts.stderr.columns ?? 80
  }

  /** A line of the result. */
  print(line: string): void {
    this.#parts.stdout.write(`${line}\n`)
  }

  /** What came from elsewhere: a script gets the bytes as they are, a person gets no control characters that move the cursor. */
  printForeign(bytes: Uint8Array): void {
    this.#parts.stdout.write(this.resultsAreSeen ? this.foreign(Buffer.from(bytes).toString('utf8')) : bytes)
  }

  /** What a program of the user's own says, as it comes, colours included. */
  relay(bytes: Uint8Array): void {
    this.#parts.stdout.write(bytes)
  }

  /** Text from elsewhere, fit for a line of the result. */
  foreign(text: string): string {
    return this.resultsAreSeen ? text.replace(CONTROL, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`) : text
  }

  /** One JSON document, on one line. */
  printJson(value: unknown): void {
    this.print(JSON.stringify(value))
  }

  /** A line beside the result. */
  note(line: string): void {
    this.#parts.stderr.write(`${line}\n`)
  }

  /** Text beside the result that is not a line, for progress. */
  scribble(text: string): void {
    this.#parts.stderr.write(text)
  }

  /** Asks a person, where `answers`. Only yes is yes: an empty line, an end of input and an interruption are no. */
  async confirm(question: string): Promise<boolean> {
    return /^\s*y(es)?\s*$/i.test(await this.ask(`${question} [y/N] `) ?? '')
  }

  /** The line that a person answers with, where `answers`; `undefined` at an end of input or an interruption. */
  async ask(question: string): Promise<string | undefined> {
    const { stdin } = this.#parts
    if (stdin === undefined) return undefined
    const { createInterface } = await import('node:readline')
    this.scribble(question)
    // Without its own line editing, Ctrl-C interrupts the command as everywhere else.
    const lines = createInterface({ input: stdin, terminal: false })
    return await new Promise((resolve) => {
      const end = (line?: string): void => {
        resolve(line)
        lines.close()
      }
      lines.once('line', end)
      lines.once('close', () => end())
      if (this.interrupted.aborted) end()
      else this.interrupted.addEventListener('abort', () => end(), { once: true })
    })
  }

  /** The text in a style, where results may have one. */
  style(style: Style, text: string): string {
    return this.resultsAreSeen ? this.#styled(style, text) : text
  }

  /** The text in a style, where messages may have one. */
  styleNote(style: Style, text: string): string {
    return this.messagesAreSeen ? this.#styled(style, text) : text
  }

  #styled(style: Style, text: string): string {
    const [on, off] = SGR[style]
    return this.#plain ? text : `\u001b[${on}m${text}\u001b[${off}m`
  }
}
