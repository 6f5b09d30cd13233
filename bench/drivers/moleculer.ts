/** Drives a remote action of Moleculer over its NATS transporter; the other end is `moleculer/service.ts`. */
import { ACTION, moleculerBroker, PAYLOAD, type MoleculerLogin } from '../moleculer/broker.ts'
import type { Driver } from './index.ts'

export async function openMoleculer(login: MoleculerLogin): Promise<Driver> {
  const broker = moleculerBroker('caller', login)
  await broker.start()
  await broker.waitForServices(ACTION.service)
  return {
    operation: async () => {
      const echoed = await broker.call(ACTION.name, { payload: PAYLOAD })
      if (echoed !== PAYLOAD) throw new Error('Moleculer gave another payload back')
    },
    close: () => broker.stop(),
  }
}
