/**
 * A process that follows a log file and writes each entry's id to its standard output; its test kills it. Arguments: the log
 * file, the data directory.
 */
import { LogfileSource } from '../../../providers/miner/logfile.ts'

const [file, dataDir] = process.argv.slice(2)
if (file === undefined || dataDir === undefined) throw new Error('usage: miner-child.ts FILE DIR')
const source = new LogfileSource(
  { onFailure: failure => { process.stderr.write(`${failure.message}\n`) } },
  { path: file, dataDir, checkpointMs: 10, maxInFlight: 8 },
)
await source.start(async entry => {
  await new Promise(resolve => { process.stdout.write(`${entry.id}\n`, resolve) })
  return 'done'
})
// The source holds no process by itself; this one lives until it is killed.
setInterval(() => undefined, 60_000)
