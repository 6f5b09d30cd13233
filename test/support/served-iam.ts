/** A node of which there is IAM alone, on the connections of a real one: its router takes requests and its listener handshakes, as in `node/mesh.ts`. */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Buses } from '../../node/bus.ts'
import { jsonReply, jsonTextReply } from '../../services/call.ts'
import { SYSTEM_CLOCK } from '../../services/clock.ts'
import { Endpoint } from '../../services/endpoint.ts'
import { IamListener } from '../../services/iam/listener.ts'
import { Deadlines } from '../../services/router/deadlines.ts'
import { Dispatcher } from '../../services/router/dispatcher.ts'
import { FrontDoor } from '../../services/router/front-door.ts'
import { Router } from '../../services/router/service.ts'
import type { IamNode } from './iam-nodes.ts'

export interface ServedIam {
  readonly frontDoor: FrontDoor
  stop(): Promise<void>
}

export async function serveIam({ did, guard, iam, log }: IamNode, { mesh, door }: Buses): Promise<ServedIam> {
  const clock = SYSTEM_CLOCK
  const dispatcher = new Dispatcher({ remote: service => Promise.reject(new CMeshError('CMESH_ROUTER_NO_SERVICE', { service })) })
  const endpoint = new Endpoint({
    hop: 'iam', node: did, guard, clock, log,
    handler: ({ route: { segments: [action = ''], write }, body }, auth) => (
      write ? iam.handle(action as 'hangup', body, auth).then(reply => jsonTextReply(reply)) : jsonReply(iam.describe(action, auth))),
  })
  dispatcher.attach('iam', endpoint.call)
  // Nothing is asked for by name.
  const registrar = { resolve: (): never => { throw new CMeshError('CMESH_REGISTRAR_NOT_FOUND', { name: '' }) }, fresh: () => undefined }
  const frontDoor = new FrontDoor({ node: did, guard, registrar, dispatcher, deadlines: new Deadlines(clock), clock, log })
  const router = new Router({ bus: mesh, frontDoor, log })
  const listener = new IamListener({ buses: [door, mesh], iam, node: did, clock, log })
  await router.start()
  await listener.start()
  return { frontDoor, stop: async () => { await Promise.all([router.drain(), listener.drain()]) } }
}
