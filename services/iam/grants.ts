/**
 * Who may do what before anybody granted anything: the operator everything, the mesh's own node what its self-test and
 * miner need, anybody else the newcomer's set. The operator is the one genesis recorded, once state is open.
 */
import { NEWCOMER_READ_SET, normalPermissions, OPERATOR_SET, parsePermission, type Permission } from '../../cmtp/permission.ts'

/** What the node does under its own name: prove at boot that state and names work. Its miner asks for the newcomer's set alone. */
export const NODE_SET: readonly Permission[] = normalPermissions([...NEWCOMER_READ_SET, parsePermission('write 0xSW:0x002:>')])

export interface GrantsParts {
  /** The node's DID. */
  readonly node: string
  /** The operator's DID as configured; genesis' own replaces it. */
  readonly operator: string
}

export class Grants {
  readonly #node: string
  #operator: string

  constructor(parts: GrantsParts) {
    this.#node = parts.node
    this.#operator = parts.operator
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
    return did === this.#node ? NODE_SET : NEWCOMER_READ_SET
  }
}
