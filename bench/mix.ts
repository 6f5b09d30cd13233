/** What the routing benchmarks ask: the main job's own mix of a view, a view by name, and the newest event of a contract. */

export const MIX = ['0xS:0x001:blah_blah', '0xR:helloWorldExample.mcom', '0xE:events.state.contracts.0x001.blah_blah:read'] as const

/** What the mix asks for by name, and what that name stands for. */
export const MIX_NAME = 'helloWorldExample.mcom'
export const MIX_TARGET = '0xS:0x001:hello_world'

/** Messages in flight. */
export const IN_FLIGHT = 256

export function mixed(index: number): string {
  return MIX[index % MIX.length] as string
}
