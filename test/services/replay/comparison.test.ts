import { describe, expect, test } from '@jest/globals'
import { Differences } from '../../../services/replay/comparison.ts'

describe('what differs in a layer', () => {
  test('bytes that are no text are never the same as the text that they are shown as', () => {
    const differences = new Differences()
    differences.told({ channel: 'orders', data: Buffer.from('hex:ff') }, { channel: 'orders', data: Uint8Array.of(0xff) })
    expect(differences.found).toEqual([{
      part: 'events', recorded: [{ channel: 'orders', data: 'hex:6865783a6666' }], replayed: [{ channel: 'orders', data: 'hex:ff' }],
    }])
  })

  test('text is shown as it is, and what is the same is no difference', () => {
    const differences = new Differences()
    differences.told({ channel: 'orders', data: Buffer.from('hex: no') }, { channel: 'orders', data: Buffer.from('hex: no') })
    expect(differences.found).toEqual([])
    differences.told({ channel: 'orders', data: Buffer.from('seven') }, undefined)
    expect(differences.found).toEqual([{ part: 'events', recorded: [{ channel: 'orders', data: 'seven' }], replayed: [] }])
  })
})
