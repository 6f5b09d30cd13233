/** Entry point of a process that sends every request back as it came: the other end of the baseline. */
import { connectRaw, type RawLogin } from './requester.ts'
import { ECHO_WILDCARD } from './subject.ts'

process.once('message', (login: RawLogin) => { void serve(login) })
process.on('SIGINT', () => undefined)

async function serve(login: RawLogin): Promise<void> {
  const connection = await connectRaw(login)
  const end = async (): Promise<void> => {
    await connection.close()
    process.exit()
  }
  process.once('disconnect', () => { void end() })
  process.once('SIGTERM', () => { void end() })
  connection.subscribe(ECHO_WILDCARD, { queue: 'router', callback: (_, message) => { connection.publish(message.reply ?? '', message.data) } })
  await connection.flush()
  process.send?.({ ready: true })
}
