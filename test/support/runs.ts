/** How often a property is tried that takes seconds: a fifth of the runs in the short form, all of them in the long one, which is TEST_LONG=1. */
const LONG = process.env['TEST_LONG'] === '1'
const SHARE = 5

export function runs(all: number): number {
  return LONG ? all : Math.ceil(all / SHARE)
}
