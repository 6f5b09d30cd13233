/**
 * People cheer for one another, and everybody sees how often.
 */
import { Cell, StateMap, checked, ctx, require } from 'cmesh/sdk'

const total = new Cell<u64>('total')
const cheers = new StateMap<string, u64>('cheers')

@event
class Cheered {
  constructor(public whom: string, public by: string, public cheers: u64) {}
}

/** Cheers for somebody, tells the world, and gives how many cheers that makes. */
export function cheer(whom: string): u64 {
  require(whom.length > 0 && whom.length <= 64, 'say whom you cheer for, in 1 to 64 characters')
  const count = checked.add(cheers.get(whom), 1)
  cheers.set(whom, count)
  total.set(checked.add(total.get(), 1))
  new Cheered(whom, ctx.caller(), count).emit()
  return count
}

/** How often somebody was cheered for. */
@view
export function cheersFor(whom: string): u64 {
  return cheers.get(whom)
}

/** How many cheers there were in all. */
@view
export function count(): u64 {
  return total.get()
}
