import { once } from 'node:events'
import { createServer } from 'node:http'
import net, { type AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from '@jest/globals'
import { HttpFace, type Health, type HttpParts } from '../../node/http.ts'

const faces: HttpFace[] = []
afterEach(async () => {
  await Promise.all(faces.splice(0).map(face => face.stop()))
})

async function open(parts: Partial<HttpParts> = {}): Promise<HttpFace> {
  const face = new HttpFace({ host: '127.0.0.1', port: 0, health: () => ({ status: 'ok' }), metrics: () => 'up 1\n', ...parts })
  faces.push(face)
  await face.start()
  return face
}

describe('health and metrics over HTTP', () => {
  test.each([['ok', 200], ['degraded', 200], ['starting', 503], ['draining', 503], ['failing', 503]] as const)('%s answers %i, with what it is made of', async (status, code) => {
    const health: Health = { status, sequence: 7 }
    const { url } = await open({ health: () => health })
    const response = await fetch(`${url}/healthz?verbose=1`)
    expect(response.status).toBe(code)
    expect(response.headers.get('content-type')).toBe('application/json')
    expect(response.headers.get('cache-control')).toBe('no-store')
    expect(await response.json()).toEqual({ status, sequence: 7 })
  })

  test('metrics are Prometheus text of version 0.0.4, made when asked for', async () => {
    let scrapes = 0
    const { url } = await open({ metrics: () => `scrapes ${++scrapes}\n` })
    const response = await fetch(`${url}/metrics`)
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
    expect(await response.text()).toBe('scrapes 1\n')
    expect(await (await fetch(`${url}/metrics`)).text()).toBe('scrapes 2\n')
  })

  test('HEAD gives the head alone, anything else than GET and HEAD is 405, any other path 404', async () => {
    const { url } = await open({ health: () => ({ status: 'draining' }) })
    const head = await fetch(`${url}/healthz`, { method: 'HEAD' })
    expect([head.status, await head.text()]).toEqual([503, ''])
    for (const method of ['POST', 'PUT', 'DELETE']) {
      const refused = await fetch(`${url}/metrics`, { method })
      expect([refused.status, refused.headers.get('allow')]).toEqual([405, 'GET, HEAD'])
    }
    for (const path of ['/', '/healthz/', '/metrics/../node.key', '/..%2fnode.key']) expect((await fetch(url + path)).status).toBe(404)
  })

  test('listens on the address it was given alone', async () => {
    const { url } = await open()
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    const { url: six } = await open({ host: '::1' })
    expect(six).toMatch(/^http:\/\/\[::1\]:\d+$/)
    expect((await fetch(`${six}/healthz`)).status).toBe(200)
  })

  test('a port that is taken is refused with its setting, and stopping then has nothing to do', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    const face = new HttpFace({ host: '127.0.0.1', port, health: () => ({ status: 'ok' }), metrics: () => '' })
    await expect(face.start()).rejects.toMatchObject({
      code: 'CMESH_CONFIG_INVALID', detail: { key: 'http.port' }, message: expect.stringMatching(/http\.port is not valid: listen EADDRINUSE/),
    })
    await face.stop()
    expect(face.url).toBe('')
    other.close()
  })

  test('stopping does not wait for clients that hold their connection', async () => {
    const face = await open()
    const socket = net.connect(Number(new URL(face.url).port), '127.0.0.1')
    await once(socket, 'connect')
    socket.write('GET /healthz HTTP/1.1\r\nHost: a\r\n')
    socket.on('error', () => undefined)
    const closed = new Promise(resolve => { socket.once('close', resolve) })
    await face.stop()
    await closed
    await face.stop()
    expect(face.url).toBe('')
  })

  test('what is no HTTP is refused and harms nobody', async () => {
    const { url } = await open()
    const tries: [string, number][] = [
      ['\0\0\0\r\n\r\n', 400], ['GET / HTTP/9\r\n\r\n', 400], [`GET /healthz?${'a'.repeat(10_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 431],
    ]
    for (const [noise, status] of tries) {
      const socket = net.connect(Number(new URL(url).port), '127.0.0.1')
      socket.on('error', () => undefined)
      socket.write(noise)
      const [head] = await once(socket, 'data') as [Buffer]
      expect(head.toString('latin1', 0, 12)).toBe(`HTTP/1.1 ${status}`)
      socket.destroy()
    }
    expect((await fetch(`${url}/healthz`)).status).toBe(200)
  })
})
