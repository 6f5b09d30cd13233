/** What the node itself may do, and the text in which the configuration says what else is to be granted to whom. */
import { CMeshError } from '../../cmtp/errors.ts'
import { isDid } from '../../cmtp/identity/did.ts'
import { ACTIONS, NEWCOMER_READ_SET, normalPermissions, parsePermission, parsePermissions, type Permission } from '../../cmtp/permission.ts'

/** What the node does under its own name: prove at boot that state and names work. Its miner asks for the newcomer's set alone. */
export const NODE_SET: readonly Permission[] = normalPermissions([...NEWCOMER_READ_SET, parsePermission('write 0xSW:0x002:>')])

/**
 * Grants from their text: `DID=permission|permission`, one entry per DID, separated by `;`; white space around the parts is ignored.
 * Throws `CMESH_IAM_PERMISSION` naming the entry.
 */
export function parseGrants(text: string): ReadonlyMap<string, readonly Permission[]> {
  const granted = new Map<string, readonly Permission[]>()
  for (const entry of text.split(';').map(each => each.trim()).filter(each => each !== '')) {
    const at = entry.indexOf('=')
    const did = entry.slice(0, Math.max(0, at)).trim()
    if (!isDid(did)) throw refused(entry, 'it begins with a DID and "="')
    if (granted.has(did)) throw refused(entry, 'its DID has an entry already')
    const permissions = parsePermissions(entry.slice(at + 1).split('|').map(each => each.trim()))
    if (permissions.some(({ actions }) => (actions & ACTIONS.exec) !== 0)) throw refused(entry, 'exec is for services alone')
    granted.set(did, permissions)
  }
  return granted
}

function refused(entry: string, reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_PERMISSION', { permission: entry.slice(0, 128), reason })
}
