import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../../cmtp/errors.ts'
import { parseFqmn } from '../../../cmtp/fqmn.ts'
import { jsonReply, type Reply } from '../../../services/call.ts'
import { Dispatcher, type ServiceName } from '../../../services/router/dispatcher.ts'
import { testCall } from '../../support/calls.ts'

const said = (reply: Reply): unknown => JSON.parse(Buffer.from(reply.body).toString())

function dispatcher(): { dispatcher: Dispatcher, asked: ServiceName[] } {
  const asked: ServiceName[] = []
  return {
    asked,
    dispatcher: new Dispatcher({
      remote: (service, call) => {
        asked.push(service)
        return call.route.write ? Promise.reject(new CMeshError('CMESH_ROUTER_NO_SERVICE', { service })) : Promise.resolve(jsonReply('elsewhere'))
      },
    }),
  }
}

describe('the dispatcher', () => {
  test.each<[string, ServiceName]>([
    ['0xI:whoami', 'iam'], ['0xR:resolve:x.mcom', 'registrar'], ['0xS:0x001', 'state'], ['0xE:chan', 'events'], ['0xC:status', 'consensus'],
  ])('calls for %s the local %s service, and that of another node without one', async (fqmn, service) => {
    const { dispatcher: made, asked } = dispatcher()
    made.attach(service, () => jsonReply('here'))
    expect(said(await made.dispatch(testCall(fqmn)))).toBe('here')
    expect(asked).toEqual([])
    made.detach(service)
    expect(said(await made.dispatch(testCall(fqmn)))).toBe('elsewhere')
    expect(asked).toEqual([service])
  })

  test('answers synchronously what is here', () => {
    const { dispatcher: made } = dispatcher()
    made.attach('state', () => jsonReply('here'))
    expect(made.dispatch(testCall('0xS:0x001'))).not.toBeInstanceOf(Promise)
  })

  test('makes a reply of what goes wrong on the way', async () => {
    const { dispatcher: made } = dispatcher()
    const reply = await made.dispatch(testCall('0xSW:0x002:increment'))
    expect({ status: reply.status, body: said(reply) }).toMatchObject({
      status: 503, body: { code: 'CMESH_ROUTER_NO_SERVICE', message: 'No state service answers in this mesh right now.', retry: 'retry' },
    })
    const broken = new Dispatcher({ remote: () => Promise.reject(new TypeError('secret')) })
    expect((await broken.dispatch(testCall('0xS:0x001'))).status).toBe(500)
  })

  test.each([
    ['0xA:1:0x001:f', 405, 'CMESH_ROUTER_INTERNAL_ONLY'],
    ['0xP:peer:0xS:0x001', 503, 'CMESH_ROUTER_PEER'],
  ])('lets nobody at %s, on this node or another', async (fqmn, status, code) => {
    const { dispatcher: made, asked } = dispatcher()
    const reply = await made.dispatch(testCall(fqmn))
    expect({ status: reply.status, code: (said(reply) as { code: string }).code, asked }).toEqual({ status, code, asked: [] })
    expect(parseFqmn(fqmn).text).toBe(fqmn)
  })
})
