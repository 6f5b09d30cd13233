/** The salt of a deployment as an option gives it. */
import { PACKAGE_SALT_BYTES } from '../../../cmtp/package.ts'
import { usage } from '../../options.ts'

/** `undefined`: a random one. Throws `CMESH_CLIENT_USAGE`. */
export function saltOf(hex: string | undefined): Uint8Array | undefined {
  if (hex === undefined) return undefined
  if (!new RegExp(`^[0-9a-f]{${PACKAGE_SALT_BYTES * 2}}$`).test(hex)) throw usage(`--salt takes ${PACKAGE_SALT_BYTES * 2} hex digits in lower case.`)
  return Buffer.from(hex, 'hex')
}
