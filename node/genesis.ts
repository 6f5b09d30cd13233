/** What a new mesh is born with: its operator, this node as its member, and the contracts that ship at genesis addresses. */
import { readFileSync } from 'node:fs'
import type { Certificate } from '../cmtp/identity/certificate.ts'
import { encodePackage, packageManifest } from '../cmtp/package.ts'
import { CMeshError } from '../cmtp/errors.ts'
import type { Genesis, GenesisContract } from '../services/contracts/genesis.ts'
import type { MeterRecord } from '../services/contracts/metering.ts'

/** Address and name of each, in the order in which they are deployed. */
const CONTRACTS = [['0x001', 'hello'], ['0x002', 'counter']] as const

/** Compiled by set-up. This file runs from `dist/node` or, in tests, from `node`. */
const COMPILED = [new URL('../contracts/', import.meta.url), new URL('../dist/contracts/', import.meta.url)]

export interface GenesisParts {
  readonly operator: string
  readonly node: string
  /** What makes the node the mesh's, where its key is not the mesh's own. */
  readonly certificate?: Certificate | undefined
  /** How gas is counted from the beginning. */
  readonly meter: MeterRecord
}

/** Throws `CMESH_BOOT_FAILED` when the compiled contracts are missing. */
export function genesisOf({ operator, node, certificate, meter }: GenesisParts): Genesis {
  const contracts = CONTRACTS.map(([address, name]): GenesisContract => {
    const manifest = packageManifest({ name, version: '1.0.0', compiler: 'assemblyscript', sdk: '1' })
    // The operator may improve what the mesh came with.
    return { address, pkg: encodePackage({ salt: Buffer.alloc(16), strategy: 'replaceable', manifest, init: Buffer.alloc(0), module: compiled(name) }) }
  })
  return { operator, members: [node], ...(certificate !== undefined && { mesh: certificate.mesh, certificate }), contracts, meter }
}

function compiled(name: string): Buffer {
  let cause: unknown
  for (const directory of COMPILED) {
    try {
      return readFileSync(new URL(`${name}.wasm`, directory))
    } catch (error) {
      cause = error
    }
  }
  throw new CMeshError('CMESH_BOOT_FAILED', { step: 'genesis', reason: `the contract ${name} is not compiled; run npm run setup` }, { cause })
}
