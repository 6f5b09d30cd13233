/**
 * `node dist/bench/rolling-restart.js`: a cluster on this machine restarts each node, then each broker, under so many requests a second, and what
 * became of every request is counted. Status 0 where none failed, none was lost and none was done twice.
 */
import { parseArgs } from 'node:util'
import { NODE_FLAGS } from '../client/cli/node-process.ts'
import { connect, KeyPair, type MeshClient } from '../client/index.ts'
import { askSupervisor } from '../client/cluster-control.ts'
import type { MeshDescriptor } from '../node/descriptor.ts'
import { Child } from './child.ts'
import { Scope } from './harness.ts'
import { describeMachine } from './machine.ts'
import { scratch } from './processes.ts'
import { machineLine } from './report.ts'
import { SteadyLoad, type Phase } from './steady-load.ts'

const { values: { rate, nodes, clients: sessions, 'log-level': level, data } } = parseArgs({
  options: {
    'rate': { type: 'string', default: '1000' }, 'nodes': { type: 'string', default: '3' }, 'clients': { type: 'string', default: '8' },
    'log-level': { type: 'string', default: 'warn' }, 'data': { type: 'string' },
  },
})

const scope = new Scope()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => { void scope.close().finally(() => process.exit(1)) })
try {
  process.exitCode = await run()
} finally {
  await scope.close()
}

async function run(): Promise<number> {
  const dir = data ?? await scratch(scope)
  const operator = KeyPair.generate()
  say(machineLine(await describeMachine()))
  const cluster = await Child.start<{ readonly descriptor: MeshDescriptor }>(scope, {
    entry: new URL('../node/cluster/main.js', import.meta.url),
    args: ['--data', dir, '--nodes', nodes, '--operator', operator.did, '--log-level', level],
    flags: NODE_FLAGS,
    isReady: message => 'descriptor' in message,
  })
  const { url, did } = cluster.ready.descriptor
  // One frame a request, so that requests spread over the routers one by one.
  const clients = await Promise.all(Array.from({ length: Number(sessions) }, () =>
    connect({ url, mesh: did, identity: operator, coalesce: false, keepSession: false, onWarning: warning => { say(`warning: ${warning.message}`) } })))
  scope.defer(() => Promise.all(clients.map((client: MeshClient) => client.close())))

  const load = new SteadyLoad({ clients, perSecond: Number(rate) })
  say(`${rate} requests a second from ${sessions} clients, half of them writes, on ${nodes} nodes and 3 brokers`)
  await load.start('before')
  await new Promise(resolve => { setTimeout(resolve, 3_000) })
  const beganMs = performance.now()
  say(`\n${'step'.padEnd(38)}requests  failed  sent again  slowest`)
  const enter = (step: string): void => {
    const phase = load.phases.at(-1)
    load.enter(step)
    if (phase !== undefined) say(rowOf(phase))
  }
  await askSupervisor(dir, 'restart', enter, new AbortController().signal)
  const tookMs = performance.now() - beganMs
  enter('after')
  await new Promise(resolve => { setTimeout(resolve, 3_000) })
  await load.stop()
  const verdict = await load.verdict(Number(nodes))

  say(rowOf(load.phases.at(-1) as Phase))
  const [ofNodes, ofBrokers] = [sum(load.phases.filter(({ name }) => name.startsWith('node-'))), sum(load.phases.filter(({ name }) => name.startsWith('broker-')))]
  say(`\nrestart of all took ${(tookMs / 1_000).toFixed(1)} s`)
  say(`nodes:   ${ofNodes.requests} requests, ${ofNodes.failed} failed, ${ofNodes.resent} sent again`)
  say(`brokers: ${ofBrokers.requests} requests, ${ofBrokers.failed} failed, ${ofBrokers.resent} sent again`)
  say(`writes:  ${verdict.acknowledged} acknowledged, ${verdict.lost} lost, ${verdict.duplicated} done twice, ${verdict.events} events too many or too few`)
  const failed = load.phases.reduce((all, phase) => all + phase.failed, 0)
  return failed === 0 && verdict.lost === 0 && verdict.duplicated === 0 && verdict.events === 0 ? 0 : 1
}

function sum(phases: readonly Phase[]): { readonly requests: number, readonly failed: number, readonly resent: number } {
  const total = (of: (phase: Phase) => number): number => phases.reduce((all, phase) => all + of(phase), 0)
  return { requests: total(phase => phase.requests), failed: total(phase => phase.failed), resent: total(phase => phase.resent) }
}

function rowOf(phase: Phase): string {
  const { name, requests, failed, resent, slowestMs, failures } = phase
  const codes = [...failures].map(([code, count]) => `  ${code} ${count}`).join('')
  return `${name.padEnd(38)}${String(requests).padStart(8)}${String(failed).padStart(8)}${String(resent).padStart(12)}${`${slowestMs.toFixed(0)} ms`.padStart(10)}${codes}`
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
