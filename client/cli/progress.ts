/**
 * Says how far a long task is, on stderr. On a terminal it is one line that changes; elsewhere a line every few seconds. What
 * is done within a second says nothing. It owns its timer and, on a terminal, the line the cursor is in.
 */
import type { Terminal } from './terminal.ts'

/** Nothing is said before, in ms. */
const PATIENCE_MS = 1_000
/** Between two changes of the line on a terminal, and between two lines elsewhere, in ms. */
const MOVING_MS = 100
const STANDING_MS = 3_000
const ERASE_LINE = '\r\u001b[2K'
const FRAMES = '⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏'

export class Progress {
  readonly #terminal: Terminal
  readonly #beganMs = performance.now()
  readonly #timer: ReturnType<typeof setInterval>
  #text: string
  #saidMs = -Infinity
  #frame = 0
  #shown = false

  constructor(terminal: Terminal, text: string) {
    this.#terminal = terminal
    this.#text = text
    this.#timer = setInterval(() => this.#tick(), MOVING_MS)
    this.#timer.unref()
  }

  /** What is being done now. */
  update(text: string): void {
    this.#text = text
  }

  /** Takes the line away. Idempotent. */
  stop(): void {
    clearInterval(this.#timer)
    if (this.#shown && this.#terminal.messagesAreSeen) this.#terminal.scribble(ERASE_LINE)
    this.#shown = false
  }

  #tick(): void {
    const nowMs = performance.now()
    if (nowMs - this.#beganMs < PATIENCE_MS) return
    if (this.#terminal.messagesAreSeen) {
      const frame = FRAMES.charAt(this.#frame++ % FRAMES.length)
      const line = `${frame} ${this.#text}`.slice(0, this.#terminal.columns - 1)
      this.#terminal.scribble(`${ERASE_LINE}${this.#terminal.styleNote('dim', line)}`)
      this.#shown = true
    } else if (nowMs - this.#saidMs >= STANDING_MS) {
      this.#saidMs = nowMs
      this.#terminal.note(`${this.#text} (${Math.round((nowMs - this.#beganMs) / 1_000)} s)`)
    }
  }
}

/** Runs a task under a progress line; `task` may change what it says. */
export async function withProgress<T>(terminal: Terminal, text: string, task: (progress: Progress) => Promise<T>): Promise<T> {
  const progress = new Progress(terminal, text)
  try {
    return await task(progress)
  } finally {
    progress.stop()
  }
}
