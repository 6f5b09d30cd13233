/** Entry point of a process that serves the action which the comparison with Moleculer calls. */
import { ACTION, moleculerBroker, type MoleculerLogin } from './broker.ts'

process.once('message', (login: MoleculerLogin) => { void serve(login) })
process.on('SIGINT', () => undefined)

async function serve(login: MoleculerLogin): Promise<void> {
  const broker = moleculerBroker('service', login)
  const end = async (): Promise<void> => {
    await broker.stop()
    process.exit()
  }
  process.once('disconnect', () => { void end() })
  process.once('SIGTERM', () => { void end() })
  broker.createService({ name: ACTION.service, actions: { [ACTION.verb]: ({ params }) => (params as { readonly payload: string }).payload } })
  await broker.start()
  process.send?.({ ready: true })
}
