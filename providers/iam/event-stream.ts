/**
 * Reads the `data` of a stream of server-sent events (HTML Living Standard, 9.2.6), as far as statuses need it: events of the
 * default type, however the stream is cut into pieces. It keeps one unfinished event and bounds nothing; its caller does.
 */
export class EventStreamReader {
  #line = ''
  #type = ''
  #data: string[] = []
  /** A piece ended in CR: an LF right after it belongs to that line end. */
  #afterReturn = false

  /** The data of the events that this piece completes. */
  read(piece: string): readonly string[] {
    const complete: string[] = []
    for (const character of piece) {
      const belongsToReturn = this.#afterReturn && character === '\n'
      this.#afterReturn = character === '\r'
      if (belongsToReturn) continue
      if (character !== '\n' && character !== '\r') {
        this.#line += character
        continue
      }
      const data = this.#take(this.#line)
      this.#line = ''
      if (data !== undefined) complete.push(data)
    }
    return complete
  }

  #take(line: string): string | undefined {
    if (line === '') {
      const data = this.#data.join('\n')
      const counts = data !== '' && (this.#type === '' || this.#type === 'message')
      this.#data = []
      this.#type = ''
      return counts ? data : undefined
    }
    const colon = line.indexOf(':')
    const field = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'data') this.#data.push(value)
    if (field === 'event') this.#type = value
    return undefined
  }
}
