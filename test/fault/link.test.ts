/** The links that the drills cut. */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { until } from '../client/support/until.ts'
import { Link } from './support/link.ts'

let echo: Server
let link: Link
let heard: string
const sockets: Socket[] = []

beforeEach(async () => {
  heard = ''
  echo = createServer(socket => {
    socket.on('error', () => undefined)
    socket.on('data', (chunk: Buffer) => {
      heard += chunk.toString()
      socket.write(chunk)
    })
  })
  echo.listen(0, '127.0.0.1')
  await once(echo, 'listening')
  link = await Link.open((echo.address() as AddressInfo).port)
})
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy()
  link.close()
  echo.close()
})

/** A connection through the link, with what came back and how it ended. */
function open(): { readonly socket: Socket, said: string, ended: string } {
  const made = { socket: connect({ host: '127.0.0.1', port: link.port }), said: '', ended: '' }
  sockets.push(made.socket)
  made.socket.on('data', (chunk: Buffer) => { made.said += chunk.toString() })
  made.socket.on('error', (error: NodeJS.ErrnoException) => { made.ended = error.code ?? '' })
  made.socket.on('close', () => { made.ended ||= 'closed' })
  return made
}

test('a link carries both ways; closed it resets what there is and what comes, and mended it carries again', async () => {
  const one = open()
  one.socket.write('one')
  await until('it is answered', () => one.said === 'one')
  link.cut('closed')
  await until('it is reset', () => one.ended !== '')
  expect(one.ended).toBe('ECONNRESET')
  const two = open()
  await until('nobody is let in', () => two.ended !== '')
  expect(link.connections).toBe(0)
  link.mend('closed')
  const three = open()
  three.socket.write('three')
  await until('it is answered', () => three.said === 'three')
})

test('a silent link keeps its connections and what they sent until it is mended', async () => {
  const one = open()
  one.socket.write('one')
  await until('it is answered', () => one.said === 'one')
  link.cut('silent')
  one.socket.write(' two')
  const other = open()
  await until('it is connected', () => link.connections === 2)
  other.socket.write('other')
  await new Promise(resolve => { setImmediate(resolve) })
  expect([heard, one.said, one.ended]).toEqual(['one', 'one', ''])
  link.mend('silent')
  await until('it is answered', () => one.said === 'one two' && other.said === 'other')
})

test('a deaf link carries what is sent and keeps the answers back', async () => {
  const one = open()
  one.socket.write('one')
  await until('it is answered', () => one.said === 'one')
  link.cut('deaf')
  one.socket.write(' two')
  await until('it arrived', () => heard === 'one two')
  expect(one.said).toBe('one')
  link.mend('deaf')
  await until('it is answered', () => one.said === 'one two')
})

test('a link that was cut twice is mended twice', async () => {
  link.cut('silent')
  link.cut('closed')
  link.mend('silent')
  const one = open()
  await until('it is reset', () => one.ended !== '')
  link.mend('closed')
  const two = open()
  two.socket.write('two')
  await until('it is answered', () => two.said === 'two')
})
