/**
 * Where replies leave: alone, or, when several requests of one inbox are answered in one turn and take it, together. It owns the
 * replies of the current turn, and nothing waits in it longer than that.
 *
 * Invariants: (1) a reply leaves in the turn in which it was given, in one message, once; (2) what is bundled is for requests
 * that said so, and goes where all of them would have gone; (3) a bundle that cannot leave leaves as single replies.
 */
import { BUNDLE_TOKEN, bundleToken, BundleWriter, decodeBundle, takesBundle } from '../../cmtp/bundle.ts'
import type { CMeshError } from '../../cmtp/errors.ts'
import { sendAnswer } from '../bus/answer.ts'
import type { Bus, BusMessage } from '../bus/provider.ts'
import type { Log } from '../log.ts'

export interface RepliesParts {
  readonly bus: Pick<Bus, 'status' | 'publish'>
  readonly log: Log
  /** The frame that takes the place of one which the broker does not take. */
  readonly refuse: (data: Uint8Array, error: CMeshError) => Buffer
}

/** Longest reply that is bundled, and longest bundle, in bytes: what is long costs the copy and gains nothing. */
const REPLY_BYTES = 4_096
const BUNDLE_BYTES = 65_536
/** Inboxes with a bundle in one turn; past it replies leave alone. */
const INBOXES = 64

interface FirstReply {
  readonly data: Uint8Array
  readonly subject: string
  readonly frame: Buffer
}

export class Replies {
  readonly #parts: RepliesParts
  /** The first of this turn, until there is a second: one that stays alone is never copied. */
  #first: FirstReply | undefined
  /** Of this turn, by inbox with the dot behind it. */
  readonly #bundles = new Map<string, BundleWriter>()
  readonly #spare: BundleWriter[] = []
  #waiting = false
  #inbox = ''
  #bundle: BundleWriter | undefined

  constructor(parts: RepliesParts) {
    this.#parts = parts
  }

  /** Sends the reply to a message, at the latest when this turn ends. Never throws. */
  send({ data }: BusMessage, subject: string, frame: Buffer): void {
    if (frame.length > REPLY_BYTES || !takesBundle(data)) {
      this.#alone(data, subject, frame)
    } else if (this.#waiting) {
      if (this.#first !== undefined) this.#together(this.#first)
      this.#first = undefined
      this.#together({ data, subject, frame })
    } else if (bundleToken(subject, subject.lastIndexOf('.')) === undefined) {
      this.#alone(data, subject, frame)
    } else {
      this.#waiting = true
      this.#first = { data, subject, frame }
      process.nextTick(this.flush)
    }
  }

  /** Sends what waits for the end of the turn now. */
  readonly flush = (): void => {
    this.#waiting = false
    const first = this.#first
    if (first !== undefined) {
      this.#first = undefined
      this.#alone(first.data, first.subject, first.frame)
    }
    if (this.#bundles.size === 0) return
    this.#bundle = undefined
    for (const [inbox, bundle] of this.#bundles) {
      this.#leave(inbox, bundle)
      this.#spare.push(bundle)
    }
    this.#bundles.clear()
  }

  #alone(data: Uint8Array, subject: string, frame: Buffer): void {
    sendAnswer(this.#parts, subject, frame, error => this.#parts.refuse(data, error))
  }

  #together({ data, subject, frame }: FirstReply): void {
    if (!this.#add(subject, frame)) this.#alone(data, subject, frame)
  }

  #add(subject: string, frame: Buffer): boolean {
    const dot = subject.lastIndexOf('.')
    const token = bundleToken(subject, dot)
    if (token === undefined) return false
    const same = this.#bundle !== undefined && dot + 1 === this.#inbox.length && subject.startsWith(this.#inbox)
    const bundle = same ? this.#bundle : this.#open(subject.slice(0, dot + 1))
    if (bundle === undefined) return false
    if (!bundle.fits(frame.length)) this.#leave(this.#inbox, bundle)
    bundle.add(token, frame)
    return true
  }

  /** The bundle of an inbox; `undefined` when there are too many already. */
  #open(inbox: string): BundleWriter | undefined {
    let bundle = this.#bundles.get(inbox)
    if (bundle === undefined) {
      if (this.#bundles.size === INBOXES) return undefined
      bundle = this.#spare.pop() ?? new BundleWriter(BUNDLE_BYTES)
      this.#bundles.set(inbox, bundle)
    }
    this.#inbox = inbox
    this.#bundle = bundle
    return bundle
  }

  #leave(inbox: string, bundle: BundleWriter): void {
    const single = bundle.count === 1
    const bytes = bundle.take()
    if (!single) {
      if (this.#parts.bus.status === 'closed') return
      try {
        this.#parts.bus.publish(inbox + BUNDLE_TOKEN, bytes)
        return
      } catch {
        // The broker's limit may be smaller than a bundle. Whatever it was, each reply meets it on its own and is reported there.
      }
    }
    for (const { token, frame } of decodeBundle(bytes)) sendAnswer(this.#parts, inbox + token, frame)
  }
}
