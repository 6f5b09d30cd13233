import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { checkChannel } from '../../cmtp/channel-name.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { contractEventChannel, isReservedChannel, parseContractEventChannel } from '../../services/events/channel.ts'

const GENESIS = '0x001'
const CONTENT = `0x${'ab'.repeat(32)}`

function refusal(act: () => unknown): { code: string, message: string } {
  try {
    act()
  } catch (thrown) {
    if (thrown instanceof CMeshError) return { code: thrown.code, message: thrown.message }
    throw thrown
  }
  throw new Error('nothing was thrown')
}

describe('the name of a channel', () => {
  test.each(['a', 'audit', 'events.mined', 'Chat_room-7~x^2', 'x'.repeat(LIMITS.channelBytes)])('%s is valid', channel => {
    expect(checkChannel(channel)).toBeUndefined()
  })

  test.each([
    ['', 'it is empty'],
    ['a b', 'only letters, digits and . _ - ~ ^ may stand in it'],
    ['a:b', 'only letters, digits and . _ - ~ ^ may stand in it'],
    ['a*', 'only letters, digits and . _ - ~ ^ may stand in it'],
    ['>', 'only letters, digits and . _ - ~ ^ may stand in it'],
    ['é', 'only letters, digits and . _ - ~ ^ may stand in it'],
    ['a\nb', 'only letters, digits and . _ - ~ ^ may stand in it'],
  ])('%j is refused and the reason named', (channel, reason) => {
    expect(refusal(() => checkChannel(channel))).toEqual({
      code: 'CMESH_EVENTS_CHANNEL',
      message: `The channel ${channel} is not valid: ${reason}.`,
    })
  })

  test('one byte over the limit is refused, and the message quotes only its beginning', () => {
    expect(refusal(() => checkChannel('x'.repeat(LIMITS.channelBytes + 1)))).toEqual({
      code: 'CMESH_EVENTS_CHANNEL',
      message: `The channel ${'x'.repeat(64)}… is not valid: it is longer than 255 bytes.`,
    })
  })

  test('any text is accepted or refused with a coded error', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 300 }), channel => {
      try {
        checkChannel(channel)
        expect(channel).toMatch(/^[A-Za-z0-9._~^-]{1,255}$/)
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(CMeshError)
        expect((thrown as CMeshError).code).toBe('CMESH_EVENTS_CHANNEL')
      }
    }))
  })
})

describe('reserved channels', () => {
  test.each(['audit', 'events.', 'events.mined', 'events.state.contracts.0x001.blah_blah'])('%s is for services only', channel => {
    expect(isReservedChannel(channel)).toBe(true)
  })

  test.each(['chat', 'audit.mine', 'auditor', 'events', 'eventsx', 'Events.mined', 'my.events.x'])('%s is open to callers', channel => {
    expect(isReservedChannel(channel)).toBe(false)
  })
})

describe('the channel of a contract event', () => {
  test('is built as the worked example writes it', () => {
    expect(contractEventChannel(GENESIS, 'blah_blah')).toBe('events.state.contracts.0x001.blah_blah')
  })

  test('is always reserved', () => {
    expect(isReservedChannel(contractEventChannel(CONTENT, 't'))).toBe(true)
  })

  test('comes apart into what it was built of', () => {
    const topics = fc.stringMatching(/^[A-Za-z0-9._~^-]{1,100}$/)
    fc.assert(fc.property(fc.constantFrom(GENESIS, '0x000', CONTENT), topics, (contract, topic) => {
      expect(parseContractEventChannel(contractEventChannel(contract, topic))).toEqual({ contract, topic })
    }))
  })

  test('whatever comes apart goes together again to the same name', () => {
    const names = fc.oneof(
      fc.string({ unit: 'binary' }).map(tail => `events.state.contracts.${tail}`),
      fc.string({ unit: 'binary' }).map(tail => `events.state.contracts.0x001.${tail}`),
      fc.stringMatching(/^events\.state\.contracts\.0x[0-9a-f.]{1,5}\.?[a-z.]{0,5}$/),
    )
    fc.assert(fc.property(names, channel => {
      const parsed = parseContractEventChannel(channel)
      if (parsed !== undefined) expect(contractEventChannel(parsed.contract, parsed.topic)).toBe(channel)
    }))
  })

  test.each([
    ['0x1', 't', 'its contract is not an address'],
    ['0xABC', 't', 'its contract is not an address'],
    ['0x001.0x002', 't', 'its contract is not an address'],
    [GENESIS, '', 'its topic is empty'],
    [GENESIS, 'a:b', 'only letters, digits and . _ - ~ ^ may stand in it'],
  ])('%s with the topic %j is refused', (contract, topic, reason) => {
    expect(refusal(() => contractEventChannel(contract, topic))).toEqual({
      code: 'CMESH_EVENTS_CHANNEL',
      message: `The channel events.state.contracts.${contract}.${topic} is not valid: ${reason}.`,
    })
  })

  test.each([
    'chat', 'events.mined', 'events.state.contracts.', 'events.state.contracts.0x001', 'events.state.contracts.0x001.',
    'events.state.contracts.name.topic', 'events.state.contracts.0x001.a b', `events.state.contracts.0x001.${'x'.repeat(255)}`,
  ])('%s is none', channel => {
    expect(parseContractEventChannel(channel)).toBeUndefined()
  })
})
