import { expect, test } from '@jest/globals'
import { CpuMeter, cpuSeconds } from '../../bench/cpu-time.ts'

/** Keeps the processor busy for several of the ticks in which the kernel counts. */
async function work(): Promise<void> {
  const before = process.cpuUsage().user
  while (process.cpuUsage().user - before < 50_000);
}

// Only Linux tells what a process used.
const onLinux = cpuSeconds(process.pid) === undefined ? test.skip : test

onLinux('a meter adds up what its processes use for so many operations, and forgets what a warm-up used', async () => {
  const meter = new CpuMeter({ self: process.pid })
  await meter.during(1, work)
  meter.reset()
  expect(meter.perOperation()).toEqual([])
  await meter.during(5, work)
  const [[name, us]] = meter.perOperation() as [[string, number]]
  expect(name).toBe('self')
  // 50 ms and a tick more or less.
  expect(us).toBeGreaterThanOrEqual(8_000)
  await meter.during(5, () => Promise.resolve())
  expect((meter.perOperation() as [[string, number]])[0][1]).toBeLessThan(us)
})
