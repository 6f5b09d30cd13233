/** Numbers as a person reads them. */

let format: Intl.NumberFormat | undefined

/** Thousands apart, and no fraction: 1,234,567. */
export function grouped(value: number): string {
  // Made by who needs it: what it reads takes longer to load than most commands take to run.
  format ??= new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 })
  return format.format(value)
}
