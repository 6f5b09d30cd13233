/**
 * Every provider that the registry lists, through the suite of its interface. A kind without a suite does not compile, and a
 * provider that a suite cannot drive fails here: nothing can be listed untested.
 */
import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { makePairedProof } from '../../cmtp/identity/paired-proof.ts'
import { makeDidProof, makeMockProof } from '../../cmtp/identity/proof.ts'
import { mineSubject } from '../../cmtp/subject.ts'
import { createProvider, REGISTRY, type ProviderContext, type ProviderKind } from '../../providers/registry.ts'
import type { MockTraces } from '../../providers/traces/mock.ts'
import { SILENT_LOG } from '../../services/log.ts'
import type { TraceExporter } from '../../services/traces/provider.ts'
import { startBroker, type TestBroker } from '../support/broker.ts'
import { answering, Collector } from '../support/collector.ts'
import { refusal } from '../support/refusal.ts'
import { StandInIrma } from '../support/stand-in-irma.ts'
import { auditConformance } from './audit.ts'
import { consensusConformance } from './consensus.ts'
import { contractsConformance } from './contracts.ts'
import { eventGroupsConformance } from './event-groups.ts'
import { eventsConformance } from './events.ts'
import { iamConformance, type IamSubject } from './iam.ts'
import { minerConformance } from './miner.ts'
import { stateConformance } from './state.ts'
import { tracesConformance, type TracesSubject } from './traces.ts'

let broker: TestBroker
let irma: StandInIrma | undefined
let dir: string
beforeAll(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-registry-'))
  broker = await startBroker()
  irma = await StandInIrma.start()
})
afterAll(async () => {
  await irma?.stop()
  await broker.stop()
  await rm(dir, { recursive: true, force: true })
})

interface ContextFields extends Partial<Omit<ProviderContext, 'options'>> {
  readonly options?: Partial<ProviderContext['options']>
}

/** What the node would build a provider from. */
function context({ options, ...fields }: ContextFields = {}): ProviderContext {
  return {
    dir, node: 'did:key:z6MkTest', core: broker?.core, log: SILENT_LOG, onFailed: () => undefined,
    watch: { enter: () => undefined, leave: () => undefined },
    ...fields,
    options: { mockIdentity: true, issuers: [], ...(irma !== undefined && { irma: irma.settings }), durability: 'os', consensusMembers: 3, consensusReplicas: 1, consensusMaxBytes: 8 * 1024 * 1024, eventsMaxBytes: 512 * 1024 * 1024, logFile: '', ...options },
  }
}

/** What an honest client answers to each identity provider. */
const PROVERS: Readonly<Record<string, (identity: KeyPair) => IamSubject['prove']>> = {
  did: identity => async context => makeDidProof(context, identity),
  irma: identity => async (context, { ui }) => makePairedProof(context, identity, irma?.scan(ui?.value ?? '') ?? ''),
  mock: identity => async (_, { challenge }) => makeMockProof(challenge, identity.did),
}

/** How a request gets to each source of the miner. */
const SOURCES: Readonly<Record<string, (file: string) => { put(...fqmns: string[]): Promise<void>, dispose(): Promise<void> }>> = {
  stream: () => ({
    put: async (...fqmns) => {
      const js = jetstream(broker.core.connection)
      for (const fqmn of fqmns) await js.publish(mineSubject('session-1'), fqmn)
    },
    dispose: async () => { await (await jetstreamManager(broker.core.connection)).streams.delete('CMESH_MINE') },
  }),
  logfile: file => ({
    put: (...fqmns) => appendFile(file, fqmns.map((fqmn, i) => `${i};${fqmn}\n`).join('')),
    dispose: async () => undefined,
  }),
}

/** Where the spans of each exporter arrive. */
const RECEIVERS: Readonly<Record<string, (make: (context: ProviderContext) => TraceExporter) => Promise<TracesSubject>>> = {
  otlp: async make => {
    const collector = await Collector.start()
    return {
      exporter: make(context({ options: { otlp: { endpoint: collector.url } } })), received: () => collector.spans,
      refuse: () => { collector.answers.push(answering(400)) }, dispose: () => collector.stop(),
    }
  },
  mock: async make => {
    const exporter = make(context()) as MockTraces
    return { exporter, received: () => exporter.spans, refuse: () => { exporter.failure = 'full' }, dispose: async () => undefined }
  },
}

const SUITES: { readonly [K in ProviderKind]: (name: string, make: (context: ProviderContext) => ReturnType<typeof createProvider<K>>) => void } = {
  audit: (name, make) => {
    auditConformance(name, (at, { maxBytes, maxAgeMs }) => make(context({ dir: at, options: { receiptsMaxBytes: maxBytes, receiptsMaxAgeMs: maxAgeMs } })))
  },
  iam: (name, make) => {
    iamConformance(name, () => {
      const identity = KeyPair.generate()
      const prover = PROVERS[name]
      if (prover === undefined) throw new Error(`nothing proves an identity to the provider ${name}: add it to PROVERS`)
      return { provider: make(context()), sub: identity.did, prove: prover(identity) }
    })
  },
  state: (name, make) => {
    // Once for each level that the provider can promise.
    const levels = new Set<string>()
    for (const durability of ['os', 'disk'] as const) {
      const level = make(context({ dir: 'nowhere', options: { durability } })).durability
      if (levels.has(level)) continue
      levels.add(level)
      stateConformance(`${name} (${level})`, at => make(context({ dir: at, options: { durability } })))
    }
  },
  consensus: (name, make) => {
    // An order of its own for each: the streams of the others stand in the broker still.
    consensusConformance(name, at => make(context({ dir: at, options: { consensusStream: path.basename(at) } })))
  },
  events: (name, make) => {
    eventsConformance(name, async () => ({ provider: make(context()), dispose: async () => undefined }))
    eventGroupsConformance(name, async () => ({ provider: make(context()), dispose: async () => undefined }))
  },
  contracts: (name, make) => {
    contractsConformance(name, () => make(context()))
  },
  miner: (name, make) => {
    minerConformance(name, async () => {
      const at = await mkdtemp(path.join(dir, 'miner-'))
      const logFile = path.join(at, 'requests.log')
      await writeFile(logFile, '')
      const source = SOURCES[name]
      if (source === undefined) throw new Error(`nothing brings requests to the source ${name}: add it to SOURCES`)
      return { create: () => make(context({ dir: at, options: { logFile } })), ...source(logFile) }
    })
  },
  traces: (name, make) => {
    const receiver = RECEIVERS[name]
    if (receiver === undefined) throw new Error(`nothing receives what the exporter ${name} sends: add it to RECEIVERS`)
    tracesConformance(name, () => receiver(make))
  },
}

for (const kind of Object.keys(REGISTRY) as ProviderKind[]) drive(kind)

function drive<K extends ProviderKind>(kind: K): void {
  for (const [name, make] of Object.entries(REGISTRY[kind])) SUITES[kind](name, make)
}

describe('the registry', () => {
  test('lists for every service at least one provider, and a suite drives each kind', () => {
    expect(Object.keys(REGISTRY).sort()).toEqual(Object.keys(SUITES).sort())
    for (const [kind, known] of Object.entries(REGISTRY)) expect({ kind, count: Object.keys(known).length > 0 }).toEqual({ kind, count: true })
  })

  test.each(Object.entries(REGISTRY).flatMap(([kind, known]) => Object.keys(known).map(name => [kind as ProviderKind, name] as const)))('makes the %s provider %s by its name', (kind, name) => {
    expect(createProvider(kind, name, context())).toBeInstanceOf(Object)
  })

  test.each(Object.keys(REGISTRY) as ProviderKind[])('says of an unknown %s provider which ones there are', kind => {
    for (const name of ['nonsense', '', 'constructor', '__proto__', 'toString']) {
      expect(refusal(() => createProvider(kind, name, context()))).toMatchObject({
        code: 'CMESH_CONFIG_PROVIDER', message: `There is no ${kind} provider ${name}. Known: ${Object.keys(REGISTRY[kind]).join(', ')}.`,
      })
    }
  })
})
