/**
 * Entry point of the contract kit's process (protocol.ts): one operation, one answer, then it ends. Exit code 0 when there was an
 * answer, 1 when there was a failure; both come as a message.
 */
import { readFile } from 'node:fs/promises'
import { register } from 'node:module'
import { pathToFileURL } from 'node:url'
import { inspect } from 'node:util'
import { CMeshError } from '../../cmtp/errors.ts'
import { checkModule, inspectModule } from './modules.ts'
import type { KitMessage, Operations } from './protocol.ts'
import { runScenario } from './scenario.ts'

type Handlers = { readonly [O in keyof Operations]: (ask: Operations[O]['ask']) => Promise<Operations[O]['answer']> }

const HANDLERS: Handlers = {
  check: async ({ module }) => checkModule(await readFile(module)),
  inspect: async ({ module }) => inspectModule(await readFile(module)),
  gas: ({ scenario, code }) => runScenario(pathToFileURL(scenario).href, code),
}

register(new URL(`./resolve${import.meta.url.slice(import.meta.url.lastIndexOf('.'))}`, import.meta.url))
process.exitCode = await answer(process.argv[2] ?? '', process.argv[3] ?? '{}')

async function answer(operation: string, ask: string): Promise<number> {
  try {
    const handler = Object.hasOwn(HANDLERS, operation) ? HANDLERS[operation as keyof Operations] as (ask: unknown) => Promise<unknown> : undefined
    if (handler === undefined) throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'operation', reason: `there is no ${operation}; known: ${Object.keys(HANDLERS).join(', ')}` })
    await say({ type: 'answer', value: await handler(JSON.parse(ask)) })
    return 0
  } catch (thrown) {
    // Of a scenario that throws its author wants to know where.
    if (!(thrown instanceof CMeshError)) process.stderr.write(`${inspect(thrown)}\n`)
    await say({ type: 'failed', error: CMeshError.from(thrown, 'the contract kit').toWire() })
    return 1
  }
}

function say(message: KitMessage): Promise<void> {
  return new Promise((resolve, reject) => {
    if (process.send === undefined) resolve(console.log(JSON.stringify(message)))
    else process.send(message, undefined, undefined, (error) => { if (error === null) resolve(); else reject(error) })
  })
}
