/**
 * Who may do what: the operator everything, the mesh's own node what its self-test and miner need, anybody else the newcomer's
 * set and what the configuration adds to it. The operator is the one genesis recorded, once state is open.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { isDid } from '../../cmtp/identity/did.ts'
import { NEWCOMER_READ_SET, normalPermissions, OPERATOR_SET, parsePermission, parsePermissions, type Permission } from '../../cmtp/permission.ts'

/** What the node does under its own name: prove at boot that state and names work. Its miner asks for the newcomer's set alone. */
export const NODE_SET: readonly Permission[] = normalPermissions([...NEWCOMER_READ_SET, parsePermission('write 0xSW:0x002:>')])

export interface GrantsParts {
  /** The node's DID. */
  readonly node: string
  /** The operator's DID as configured; genesis' own replaces it. */
  readonly operator: string
  /** What some may do beyond the newcomer's set, as `parseGrants` gives it. Default: nobody anything. */
  readonly granted?: ReadonlyMap<string, readonly Permission[]>
}

export class Grants {
  readonly #node: string
  readonly #granted: ReadonlyMap<string, readonly Permission[]>
  #operator: string

  constructor({ node, operator, granted = new Map() }: GrantsParts) {
    this.#node = node
    this.#operator = operator
    const base = (did: string): readonly Permission[] => (did === node ? NODE_SET : NEWCOMER_READ_SET)
    this.#granted = new Map([...granted].map(([did, more]) => [did, normalPermissions([...base(did), ...more])]))
  }

  get operator(): string {
    return this.#operator
  }

  /** Genesis says who the operator is; what was configured counts no longer. Contexts must be narrowed anew by whoever calls. */
  recorded(operator: string): void {
    this.#operator = operator
  }

  readonly grantsOf = (did: string): readonly Permission[] => {
    if (did === this.#operator) return OPERATOR_SET
    return this.#granted.get(did) ?? (did === this.#node ? NODE_SET : NEWCOMER_READ_SET)
  }
}

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
    granted.set(did, parsePermissions(entry.slice(at + 1).split('|').map(each => each.trim())))
  }
  return granted
}

function refused(entry: string, reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_PERMISSION', { permission: entry.slice(0, 128), reason })
}
