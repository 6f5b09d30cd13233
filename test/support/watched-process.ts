/**
 * A process that runs a contract under the watchdog: `<wasm file> <limit in ms> <mode>`.
 * `spin`: one call that never returns. `busy`: short calls for twice the limit, then ends by itself. `restart`: starts and stops
 * the watchdog twice over, then as `spin`. `idle`: starts it and ends. Says `ready` when the engine is.
 */
import { readFileSync } from 'node:fs'
import { Watchdog } from '../../node/watchdog.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'

const [file = '', limit = '', mode = ''] = process.argv.slice(2)
const limitMs = Number(limit)
const watchdog = new Watchdog({ limitMs })
watchdog.start()
const engine = new WasmEngine({ onEnter: watchdog.enter, onLeave: watchdog.leave })
for (const address of ['0x001', '0x002']) engine.install(address, readFileSync(file), new Map())
const call = (address: string, name: string): void => {
  engine.call({
    address, function: name, input: new Uint8Array(0), view: false, gasLimit: Number.MAX_SAFE_INTEGER,
    context: { seq: 1, timeMs: 0, caller: '', origin: '', seed: new Uint8Array(32) },
  })
}
process.stdout.write('ready\n')
for (const address of ['0x001', '0x002', '0x001']) call(address, 'work')
if (mode === 'restart') {
  watchdog.start()
  await Promise.all([watchdog.stop(), watchdog.stop()])
  await watchdog.stop()
  watchdog.start()
}
if (mode === 'spin' || mode === 'restart') call('0x002', 'spin')
for (const end = performance.now() + 2 * limitMs; mode === 'busy' && performance.now() < end;) call('0x001', 'work')
process.stdout.write('done\n')
