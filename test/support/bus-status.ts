/** When a bus has come to be connected, disconnected or closed. */
import type { Bus, BusStatus } from '../../services/bus/provider.ts'

export function statusOf(bus: Pick<Bus, 'status' | 'onStatus'>, wanted: BusStatus): Promise<void> {
  return new Promise(resolve => {
    if (bus.status === wanted) return resolve()
    const stop = bus.onStatus(status => {
      if (status !== wanted) return
      stop()
      resolve()
    })
  })
}
