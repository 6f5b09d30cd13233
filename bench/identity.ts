/** `identity`: the guard on a token it knows and on one it does not, a handshake, and what sessions cost in memory. */
import { residentMb } from './cpu-time.ts'
import { atMost, interleave, median, type Bench, type Figure, type Ratio } from './harness.ts'
import { startDriver, startMesh } from './processes.ts'
import type { GuardWay } from './drivers/guard.ts'

/** Checks in a round, and sessions that live at once. */
const COUNTS = { hit: 1_000_000, miss: 2_000, jose: 2_000, live: 10_000 } as const
const SMOKE_COUNTS = { hit: 10_000, miss: 200, jose: 200, live: 200 } as const
/** Sessions opened before memory is first read, so that the code that opens them is compiled and has its buffers. */
const WARM_SESSIONS = 100

export const identity: Bench = {
  name: 'identity',
  what: 'the guard on a known and on a new token, against jose alone; a handshake over the broker; sessions held at once',
  async run({ smoke, log, scope }) {
    const rounds = smoke ? 1 : 7
    const counts = smoke ? SMOKE_COUNTS : COUNTS
    const guard = await startDriver(scope, 'guard', undefined)
    const micros = async (way: Exclude<GuardWay, 'know' | 'live'>): Promise<number> => {
      if (way === 'hit') await guard.run({ count: 1, inFlight: 1, way: 'know' })
      return 1e6 / (await guard.run({ count: counts[way], inFlight: 1, way })).perSecond
    }
    for (const way of ['hit', 'miss', 'jose'] as const) await micros(way)
    const times = await interleave(rounds, { jose: () => micros('jose'), miss: () => micros('miss'), hit: () => micros('hit') })

    const mesh = await startMesh(scope)
    const client = await startDriver(scope, 'handshake', mesh.access)
    const handshakes = { count: smoke ? 5 : 50, inFlight: 0 }
    await client.run(handshakes)
    const opened = await interleave(rounds, { client: () => client.run(handshakes) })
    const handshakeMs = median(opened.client.map(({ p50Us }) => p50Us)) / 1_000

    log(`opening ${counts.live} sessions`)
    const holder = await startDriver(scope, 'guard', undefined)
    await holder.run({ count: WARM_SESSIONS, inFlight: 1, way: 'live' })
    const idleMb = residentMb(holder.pid) ?? Number.NaN
    await holder.run({ count: counts.live, inFlight: 1, way: 'live' })
    const liveMb = (residentMb(holder.pid) ?? Number.NaN) - idleMb

    const figures: Figure[] = [
      { name: 'jose alone', value: median(times.jose), unit: 'µs' },
      { name: 'guard, new token', value: median(times.miss), unit: 'µs' },
      { name: 'guard, known token', value: median(times.hit), unit: 'µs' },
      { name: 'connect to first reply, p50', value: handshakeMs, unit: 'ms' },
      ...(Number.isNaN(liveMb) ? [] : [{ name: `${counts.live} sessions, over idle`, value: liveMb, unit: 'MB' }]),
    ]
    const ratios: Ratio[] = [
      atMost('identity/hitUs', median(times.hit), 3), atMost('identity/missUs', median(times.miss), 250), atMost('identity/handshakeMs', handshakeMs, 50),
      ...(Number.isNaN(liveMb) ? [] : [atMost('identity/liveMb', liveMb, 100)]),
    ]
    return {
      rounds, figures, ratios,
      leftOut: [
        'a known token stands for 1,000 sessions asked in turn, all with the same grants; what follows the check, the permission for the address, is not in it',
        'memory: the process that holds the sessions has made their handshakes too, both sides of them; garbage was collected before it was read',
        ...(Number.isNaN(liveMb) ? ['memory: this system does not tell it'] : []),
      ],
    }
  },
}
