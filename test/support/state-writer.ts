/**
 * A process that commits one block after another until it is killed or fails: `node --import … state-writer.ts <dir> <os|disk>
 * <in flight>`. It says on a line of its own `ack <seq>` for each durable commit, in order, and what became of a failure.
 */
import { writeSync } from 'node:fs'
import { CMeshError } from '../../cmtp/errors.ts'
import { HypercoreStateStore } from '../../providers/state/hypercore.ts'
import { commitBlock, loopBlock } from './blocks.ts'

const [dir, durability, inFlight] = process.argv.slice(2)

// Straight to the descriptor: what was acknowledged must be told even when this process is killed right after.
const say = (line: string): void => { writeSync(1, `${line}\n`) }
const describe = (thrown: unknown): string => (thrown instanceof CMeshError ? `${thrown.code} ${thrown.message}` : String(thrown))

const store = new HypercoreStateStore({
  dir: dir as string,
  durability: durability as 'os' | 'disk',
  onFailed: error => say(`failed ${error.code}`),
})

let failure: unknown
async function commitOn(): Promise<void> {
  while (failure === undefined) {
    const block = loopBlock(store.head.seq + 1)
    try {
      await commitBlock(store, block)
      say(`ack ${block.seq}`)
    } catch (thrown) {
      failure ??= thrown
    }
  }
}

await store.open(() => {})
say(`open ${store.head.seq}`)
await Promise.all(Array.from({ length: Number(inFlight) }, commitOn))
say(`rejected ${describe(failure)}`)
await store.commit(loopBlock(store.head.seq + 1)).catch((thrown: unknown) => say(`later ${describe(thrown)}`))
await store.flush().catch((thrown: unknown) => say(`flush ${describe(thrown)}`))
await store.close()
say('closed')
