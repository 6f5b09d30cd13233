/** What is wrong with what somebody typed is said of that: never of a byte in an address that the client would have made of it. */
import { describe, expect, test } from '@jest/globals'
import { Channels } from '../../client/channels.ts'
import { findContract } from '../../client/cli/contract/deployed.ts'
import { DeadLetters } from '../../client/dead-letters.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { Names } from '../../client/names.ts'
import type { Reply } from '../../client/reply.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'

const sent: string[] = []
/** A mesh that has no name. */
const call = (fqmn: string): Promise<Reply> => {
  sent.push(fqmn)
  return Promise.reject(new Error('asked'))
}
const names = new Names(call, KeyPair.fromSeed(Buffer.alloc(32, 7)))
const channels = new Channels({ call, connection: undefined as never, onWarning: () => undefined })
const letters = new DeadLetters(call)
const client = { resolve: (name: string) => names.resolve(name, {}) } as MeshClient

describe('what is no part of an address is refused unsent', () => {
  test.each<[string, () => Promise<unknown>, string, string]>([
    ['the target of register', () => names.register('a.mcom', 'foo', {}), 'CMESH_FQMN_OPCODE', 'The FQMN has an unknown opcode at byte 0: '],
    ['the target of register, further on', () => names.register('a.mcom', '0xS:0x1', {}), 'CMESH_FQMN_SYNTAX', 'The FQMN is malformed at byte 4: '],
    ['a target that nests', () => names.register('a.mcom', '0xE:0xR:b.mcom:0xE:c', {}), 'CMESH_REGISTRAR_TARGET', 'A name cannot map to 0xE:0xR:b.mcom:0xE:c: it nests another address.'],
    ['the target of update', () => names.update('a.mcom', 'foo', {}), 'CMESH_FQMN_OPCODE', 'The FQMN has an unknown opcode at byte 0: '],
    ['the name of resolve', () => names.resolve('a b.mcom', {}), 'CMESH_NAME_INVALID', 'The name a<U+0020>b.mcom is not valid: '],
    ['a contract by its name', () => findContract(client, 'a.mcom:f', {}), 'CMESH_NAME_INVALID', 'The name a.mcom:f is not valid: '],
    ['the channel of publish', () => channels.publish('a b', '', {}), 'CMESH_EVENTS_CHANNEL', 'The channel a b is not valid: '],
    ['the channel of read', () => channels.latest('0xE:a', {}), 'CMESH_EVENTS_CHANNEL', 'The channel 0xE:a is not valid: '],
    ['the channel of read, by a name', () => channels.latest('0xR:a b:c', {}), 'CMESH_FQMN_SYNTAX', 'The FQMN is malformed at byte 5: '],
    ['the channel of range', () => channels.range('', {}, {}), 'CMESH_EVENTS_CHANNEL', 'The channel  is not valid: it is empty.'],
    ['the channel of count', () => channels.count('a:b', {}), 'CMESH_EVENTS_CHANNEL', 'The channel a:b is not valid: '],
    ['the channel of a tail', () => channels.subscribe('a*', () => undefined, {}), 'CMESH_EVENTS_CHANNEL', 'The channel a* is not valid: '],
    ['the channel of groups', () => channels.groups('a b', {}), 'CMESH_EVENTS_CHANNEL', 'The channel a b is not valid: '],
    ['the channel of a member', () => channels.group('a b', 'g', () => undefined, {}), 'CMESH_EVENTS_CHANNEL', 'The channel a b is not valid: '],
    ['the group of a member', () => channels.group('a', 'g h', () => undefined, {}), 'CMESH_EVENTS_GROUP', 'The group g h of channel a refuses: its name has '],
    ['the group that is removed', () => channels.removeGroup('a', 'g:ack', {}), 'CMESH_EVENTS_GROUP', 'The group g:ack of channel a refuses: its name has '],
  ])('%s', async (_, ask, code, says) => {
    sent.length = 0
    await expect(ask()).rejects.toMatchObject({ code, message: expect.stringContaining(says) })
    expect(sent).toEqual([])
  })

  test('a letter by what is no id is not there', async () => {
    sent.length = 0
    expect([await letters.drop('a b'), await letters.replay('a:replay')]).toEqual([false, false])
    expect(sent).toEqual([])
  })
})

describe('what may be one goes out as it was typed', () => {
  test.each<[string, () => Promise<unknown>, string]>([
    ['a name in capitals', () => names.resolve('Hello.mcom', {}), '0xR:resolve:Hello.mcom'],
    ['a name of elsewhere', () => names.resolve('google.com', {}), '0xR:resolve:google.com'],
    ['a name that no address can hold, in its normal form', () => names.resolve('Bücher.mcom', {}), '0xR:resolve:xn--bcher-kva.mcom'],
    ['a contract by its name', () => findContract(client, 'Token.mcom', {}), '0xR:resolve:Token.mcom'],
    ['a contract by the address of its name', () => findContract(client, '0xR:token.mcom', {}), '0xR:resolve:token.mcom'],
    ['a target that writes', () => names.register('a.mcom', '0xSW:0x001:say', {}), '0xRW:register:a.mcom:0xSW:0x001:say'],
    ['the events of a name', () => channels.latest('0xR:a.mcom:Sold', {}), '0xE:0xR:a.mcom:Sold:read'],
  ])('%s', async (_, ask, fqmn) => {
    sent.length = 0
    await expect(ask()).rejects.toThrow('asked')
    expect(sent).toEqual([fqmn])
  })
})
