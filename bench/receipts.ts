/** `receipts`: what it costs to record every request, and to hand out whole receipts. */
import { readdir, stat } from 'node:fs/promises'
import path from 'node:path'
import { CpuMeter } from './cpu-time.ts'
import { atLeast, interleave, median, medianRatio, type Bench } from './harness.ts'
import { IN_FLIGHT } from './mix.ts'
import { registerMixName, startDriver, startMesh } from './processes.ts'

const LEVELS = ['none', 'hash', 'full'] as const

export const receipts: Bench = {
  name: 'receipts',
  what: `the mix of routing at each receipt level, ${IN_FLIGHT} in flight; every request is on the audit log at any of them`,
  async run({ smoke, scope }) {
    const rounds = smoke ? 1 : 5
    const count = smoke ? 1_500 : 30_000
    const mesh = await startMesh(scope)
    await registerMixName(mesh)
    const subjects = await Promise.all(LEVELS.map(async receipt => {
      const driver = await startDriver(scope, 'mix', { ...mesh.access, coalesce: true, receipt })
      const cpu = new CpuMeter({ client: driver.pid, broker: mesh.brokerPid, node: mesh.pid })
      const run = (): Promise<{ readonly perSecond: number }> => driver.run({ count, inFlight: IN_FLIGHT })
      await run()
      return { receipt, cpu, round: async (): Promise<number> => (await cpu.during(count, run)).perSecond }
    }))
    const byLevel = Object.fromEntries(subjects.map(({ receipt, round }) => [receipt, round])) as Record<(typeof LEVELS)[number], () => Promise<number>>
    const values = await interleave(rounds, byLevel)
    const asked = LEVELS.length * count * (rounds + 1)
    const perRequest = async (part: string): Promise<number> => await bytesOf(path.join(mesh.dir, 'audit', part)) / asked
    return {
      rounds,
      figures: [
        ...subjects.flatMap(({ receipt, cpu }) => [
          { name: receipt, value: median(values[receipt]), unit: 'requests/s' },
          ...cpu.perOperation().map(([process, us]) => ({ name: `${receipt}: CPU of ${process}`, value: us, unit: 'µs/request' })),
        ]),
        { name: 'audit log on disk', value: await perRequest('log'), unit: 'bytes/request' },
        { name: 'layers on disk', value: await perRequest('layers'), unit: 'bytes/request' },
      ],
      ratios: [
        atLeast('receipts/hash', medianRatio(values.hash, values.none), 0.9),
        atLeast('receipts/full', medianRatio(values.full, values.none), 0.6),
      ],
      leftOut: [
        'the network: client, broker and node share one machine and its cores',
        'a mesh that records nothing: at `none` the final hash is made and recorded too, and is merely not sent',
        'checking the receipts, which whoever holds one does when they like',
      ],
    }
  },
}

async function bytesOf(dir: string): Promise<number> {
  const files = await readdir(dir, { recursive: true, withFileTypes: true })
  const sizes = await Promise.all(files.filter(file => file.isFile()).map(async file => (await stat(path.join(file.parentPath, file.name))).size))
  return sizes.reduce((sum, size) => sum + size, 0)
}
