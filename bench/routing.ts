/** `routing`, `routing --wide`, `routing --batch`: requests a second through the whole way, beside a hand-made requester on raw NATS. */
import { KeyPair, type MeshClient } from '../client/index.ts'
import { atLeast, interleave, median, medianRatio, rate, type Bench, type BenchResult } from './harness.ts'
import { meshClient, NodeProcess, RawEcho } from './processes.ts'
import { PAYLOAD_BYTES } from './raw/requester.ts'

export const MIX = ['0xS:0x001:blah_blah', '0xR:helloWorldExample.mcom', '0xE:events.state.contracts.0x001.blah_blah:read'] as const
const IN_FLIGHT = 256
const RAW_SUBJECT = 'cmesh.v1.req.raw'
const LEFT_OUT = [
  'client, broker and node share one machine: no network between them',
  'the baseline has no deadlines, no session and no receipt; its payloads are 200 bytes both ways',
]

interface Setting {
  readonly node: NodeProcess
  readonly client: MeshClient
  readonly raw: RawEcho
  stop(): Promise<void>
}

async function setUp(settings: Readonly<Record<string, string>> = {}): Promise<Setting> {
  const operator = KeyPair.generate()
  const node = await NodeProcess.start({ operator: operator.did, settings })
  const client = await meshClient(node, operator)
  await client.register('helloWorldExample.mcom', '0xS:0x001:hello_world')
  const raw = await RawEcho.start()
  return {
    node, client, raw,
    stop: async () => {
      await client.close()
      await raw.stop()
      await node.stop()
    },
  }
}

async function checkMix(client: MeshClient): Promise<void> {
  for (const fqmn of MIX) await client.call(fqmn)
}

export const routing: Bench = {
  name: 'routing',
  what: `30,000 requests of the mix, ${IN_FLIGHT} in flight, session checked and final hash on each`,
  async run({ smoke }): Promise<BenchResult> {
    const rounds = smoke ? 1 : 7
    const count = smoke ? 1_500 : 30_000
    const setting = await setUp()
    try {
      const { client, raw } = setting
      const payload = new Uint8Array(PAYLOAD_BYTES)
      await checkMix(client)
      const ask = (i: number): Promise<unknown> => client.call(MIX[i % MIX.length] as string)
      const echo = (): Promise<unknown> => raw.requester.request(RAW_SUBJECT, payload)
      await rate(count, IN_FLIGHT, echo)
      await rate(count, IN_FLIGHT, ask)
      const values = await interleave(rounds, { raw: () => rate(count, IN_FLIGHT, echo), mesh: () => rate(count, IN_FLIGHT, ask) })
      return {
        bench: 'routing',
        rounds,
        figures: [
          { name: 'mesh', value: median(values.mesh), unit: 'requests/s' },
          { name: 'raw NATS', value: median(values.raw), unit: 'requests/s' },
        ],
        ratios: [atLeast('routing/raw', medianRatio(values.mesh, values.raw), 0.75)],
        leftOut: LEFT_OUT,
      }
    } finally {
      await setting.stop()
    }
  },
}
