/** The setting `iam.issuers`: whose credentials count, as DIDs separated by `|`. */
import { CMeshError } from '../../cmtp/errors.ts'
import { isDid } from '../../cmtp/identity/did.ts'

/** The DIDs in the setting. Throws `CMESH_CONFIG_INVALID` naming the one that is none. */
export function parseIssuers(text: string): readonly string[] {
  const issuers = text.split('|').map(each => each.trim()).filter(each => each !== '')
  for (const issuer of issuers) {
    if (!isDid(issuer)) throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'iam.issuers', reason: `${issuer.slice(0, 80)} is no did:key` })
  }
  return issuers
}
