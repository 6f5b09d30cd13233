/**
 * What a contract tells the world. An event of topic `signed` from contract C is read from the channel
 * `events.state.contracts.C.signed`. A failed call emits nothing, and a view may not emit.
 */
import { emit as hostEmit } from './host'
import { quote } from './json'

/** `topic`: 1 to 128 characters of A–Z a–z 0–9 . _ - ~ ^. `json`: JSON text, at most 65,536 bytes. */
export function emit(topic: string, json: string): void {
  const name = String.UTF8.encode(topic)
  const data = String.UTF8.encode(json, false, String.UTF8.ErrorMode.ERROR)
  hostEmit(changetype<usize>(name), name.byteLength, changetype<usize>(data), data.byteLength)
}

/** An event whose data is one JSON string. */
export function emitText(topic: string, text: string): void {
  emit(topic, quote(text))
}
