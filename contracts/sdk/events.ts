/**
 * What a contract tells the world. An event of topic `signed` from contract C is read from the channel
 * `events.state.contracts.C.signed`. A failed call emits nothing, and a view may not emit.
 *
 *     @event class Transfer { constructor(public from: string, public to: string, public amount: u64) {} }
 *     new Transfer(from, to, amount).emit()
 *
 * is an event of topic `Transfer` whose data is a JSON object of its fields, and stands in the contract's ABI.
 * `@event('moved')` gives it another topic.
 */
import { emit as hostEmit } from './host'
import { encoded } from './text'
import { JsonWriter } from './writer'

/** `topic`: 1 to 128 characters of A–Z a–z 0–9 . _ - ~ ^. `json`: JSON text, at most 65,536 bytes. */
export function emit(topic: string, json: string): void {
  const data = encoded(json)
  emitBytes(topic, changetype<usize>(data), data.byteLength)
}

/** An event whose data is one JSON string. */
export function emitText(topic: string, text: string): void {
  const writer = new JsonWriter()
  writer.text(text)
  emitBytes(topic, writer.start, writer.length)
}

/** What `emit()` of an `@event` class comes to; the compiler writes that method. */
// @ts-ignore: a decorator of the compiler's.
@global
export function __cmesh_emit<T>(topic: string, event: T): void {
  const writer = new JsonWriter()
  event.__json<JsonWriter>(writer)
  emitBytes(topic, writer.start, writer.length)
}

function emitBytes(topic: string, data: usize, length: i32): void {
  const name = String.UTF8.encode(topic)
  hostEmit(changetype<usize>(name), name.byteLength, data, length)
}
