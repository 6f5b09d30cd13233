/**
 * A hashed timer wheel: many time-outs on one interval timer. It owns the clock reading, the timer and the slots; it never
 * runs anything but `onExpire`, which must not throw and must not wait.
 *
 * Invariants: (1) a node is in at most one slot, and leaving costs the same however many wait; (2) a node never expires early,
 * and at most two ticks late while the process runs; (3) the timer exists only while a node waits, give or take one idle
 * second, and never holds the process open; (4) a pause of the whole process counts as one tick, so that answers which arrived
 * meanwhile are read before their requests are given up.
 */

/** Where a node hangs in its slot. Whatever is to time out extends this. */
export class TimerNode {
  /** The tick in which it was added, and the one at which it expires. Written by the wheel. */
  from = 0
  due = 0
  prev: TimerNode = this
  next: TimerNode = this
}

export interface TimerWheelOptions<N extends TimerNode> {
  /** Called once for each node whose time is up, after it left the wheel. */
  readonly onExpire: (node: N) => void
  /** Monotonic clock in ms. Default `performance.now`. */
  readonly now?: () => number
  /** Resolution in ms, 1 to 1,000. Default 20. */
  readonly tickMs?: number
  /** Slots, a power of two. Default 512: one turn of the wheel is then ten seconds. */
  readonly slots?: number
}

/** A gap between two readings of the clock that is longer than this, in ms, is a pause of the process, not time spent waiting. */
const PAUSE_MS = 1_000
/** How long the timer idles, in ms, before it is cleared; setting it anew for each lone request would cost more. */
const IDLE_MS = 1_000

export class TimerWheel<N extends TimerNode> {
  readonly #onExpire: (node: N) => void
  readonly #now: () => number
  readonly #tickMs: number
  readonly #mask: number
  readonly #slots: TimerNode[]
  /** The next tick to be looked at. */
  #cursor = 0
  /** The clock's reading at tick 0; moves forward by the length of each pause. */
  #origin = 0
  #size = 0
  #idleTurns = 0
  #timer: ReturnType<typeof setInterval> | null = null

  constructor(options: TimerWheelOptions<N>) {
    this.#onExpire = options.onExpire
    this.#now = options.now ?? (() => performance.now())
    this.#tickMs = options.tickMs ?? 20
    const slots = options.slots ?? 512
    this.#mask = slots - 1
    this.#slots = Array.from({ length: slots }, () => new TimerNode())
  }

  /** Nodes waiting. */
  get size(): number {
    return this.#size
  }

  /** Lets `node` expire in `delayMs` from now. The node must not be in a wheel. */
  add(node: N, delayMs: number): void {
    if (this.#timer === null) this.#arm()
    node.from = this.#tick()
    node.due = node.from + Math.ceil(delayMs / this.#tickMs)
    this.#hang(node)
  }

  /**
   * Lets `node`, which has just expired, expire once more, `delayMs` after it was added: however often, it is not later for it. False, and the
   * node is in no slot, where that time is up already.
   */
  addAgain(node: N, delayMs: number): boolean {
    const due = node.from + Math.ceil(delayMs / this.#tickMs)
    if (due <= this.#cursor) return false
    node.due = due
    this.#hang(node)
    return true
  }

  /** Takes `node` out before its time. Removing a node that is not in the wheel would corrupt the count: the caller knows. */
  remove(node: N): void {
    node.prev.next = node.next
    node.next.prev = node.prev
    node.prev = node
    node.next = node
    this.#size--
  }

  /** Expires what is due. The wheel's own timer calls this; a test with its own clock calls it after moving that clock. */
  turn(): void {
    const to = this.#tick()
    for (; this.#cursor < to; this.#cursor++) {
      const head = this.#slots[this.#cursor & this.#mask] as TimerNode
      for (let node = head.next; node !== head;) {
        const { next } = node
        // A node of a later revolution shares the slot and stays.
        if (node.due <= this.#cursor) {
          this.remove(node as N)
          this.#onExpire(node as N)
        }
        node = next
      }
    }
    if (this.#size > 0) this.#idleTurns = 0
    else if (++this.#idleTurns * this.#tickMs >= IDLE_MS) this.stop()
  }

  /** Clears the timer. Nodes that still wait stay where they are; the next `add` sets the timer again. */
  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
    this.#idleTurns = 0
  }

  #arm(): void {
    this.#origin = this.#now() - this.#cursor * this.#tickMs
    this.#timer = setInterval(() => this.turn(), this.#tickMs)
    this.#timer.unref()
  }

  #hang(node: N): void {
    const head = this.#slots[node.due & this.#mask] as TimerNode
    const last = head.prev
    node.prev = last
    node.next = head
    last.next = node
    head.prev = node
    this.#size++
  }

  /** The tick that is under way; those before it are over. */
  #tick(): number {
    const elapsedMs = this.#now() - this.#origin
    const behindMs = elapsedMs - this.#cursor * this.#tickMs
    if (behindMs <= PAUSE_MS) return Math.floor(elapsedMs / this.#tickMs)
    this.#origin += behindMs - this.#tickMs
    return this.#cursor + 1
  }
}
