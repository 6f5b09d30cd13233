import { createHash } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { formatStateProof, statementBytes, verifyStateProof } from '../../../cmtp/state-proof.ts'
import { checkpointChain, checkpointHead } from '../../../cmtp/state-hash.ts'
import { StateTree } from '../../../services/state/state-tree.ts'

const NODE = KeyPair.generate()

type Model = Map<string, Uint8Array>

const sha256 = (...parts: readonly Uint8Array[]): Buffer => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()

/** The root by the definition alone: over all paths and digests there are, from the top down. */
function naiveRoot(model: Model): Buffer {
  const entries = [...model].map(([name, value]) => {
    const [contract = '', key = ''] = split(name)
    const path = sha256(Buffer.from([2, contract.length]), Buffer.from(contract + key, 'latin1'))
    return Buffer.concat([path, sha256(Buffer.from([3]), value)])
  })
  const rootOf = (of: readonly Buffer[], depth: number): Buffer => {
    if (of.length <= 32) return sha256(Buffer.from([0]), ...[...of].sort((a, b) => Buffer.compare(a, b)))
    const nibble = (entry: Buffer): number => Number.parseInt(entry.toString('hex').charAt(depth), 16)
    return sha256(Buffer.from([1]), ...Array.from({ length: 16 }, (_, i) => rootOf(of.filter(entry => nibble(entry) === i), depth + 1)))
  }
  return rootOf(entries, 0)
}

const nameOf = (contract: string, key: string): string => `${contract}|${key}`
const split = (name: string): string[] => [name.slice(0, name.indexOf('|')), name.slice(name.indexOf('|') + 1)]

function proofOf(tree: StateTree, root: Uint8Array, contract: string, key: string): string {
  const previous = new Uint8Array(32).fill(7)
  const rest = new Uint8Array(32).fill(9)
  const place = { epoch: 1, seq: 5, timeMs: 1_700_000_000_000 }
  const chain = checkpointChain(previous, checkpointHead({ ...place, root }), rest)
  const said = { node: NODE.did, head: 6, atMs: 1_700_000_000_001 }
  const signature = NODE.sign(statementBytes({ mesh: NODE.did, ...said, ...place, chain })).toString('base64url')
  const block = { ...place, previous, rest }
  return formatStateProof({ mesh: NODE.did, contract, key, ...tree.show(contract, key), block, signatures: [{ ...said, signature }] })
}

const anyContract = fc.constantFrom('0x000', '0x001', `0x${'ab'.repeat(32)}`)
const anyKey = fc.oneof(fc.nat(400).map(String), fc.uint8Array({ maxLength: 4 }).map(bytes => Buffer.from(bytes).toString('latin1')))
const anyChange = fc.record({ contract: anyContract, key: anyKey, value: fc.option(fc.uint8Array({ maxLength: 5 }), { nil: undefined, freq: 3 }) })
/** From an empty map to some hundreds of keys: pages, branches, and both again when much is taken out. */
const anyChanges = fc.oneof(
  fc.array(anyChange, { maxLength: 60 }),
  fc.tuple(fc.nat(700), fc.array(anyChange, { maxLength: 60 }), fc.nat(700)).map(([many, changes, gone]) => [
    ...Array.from({ length: many }, (_, i) => ({ contract: '0x002', key: `k${i}`, value: new Uint8Array([i]) })),
    ...changes,
    ...Array.from({ length: Math.min(gone, many) }, (_, i) => ({ contract: '0x002', key: `k${i}`, value: undefined })),
  ]),
)

describe('the tree of state', () => {
  test('has the root that its definition gives for what it holds, and proves every key and every absence', () => {
    fc.assert(fc.property(anyChanges, anyContract, anyKey, (changes, contract, other) => {
      const tree = new StateTree()
      const model: Model = new Map()
      for (const { contract: of, key, value } of changes) {
        tree.set(of, key, value)
        if (value === undefined) model.delete(nameOf(of, key))
        else model.set(nameOf(of, key), value)
      }
      expect(tree.size).toBe(model.size)
      const root = tree.keep()
      expect(Buffer.from(root).equals(naiveRoot(model))).toBe(true)
      for (const name of [...[...model.keys()].filter((_, i) => i % 23 === 0), nameOf(contract, other)]) {
        const [of = '', key = ''] = split(name)
        const proven = verifyStateProof(proofOf(tree, root, of, key), NODE.did)
        const value = model.get(name)
        expect(proven.value).toEqual(value === undefined ? undefined : Buffer.from(value))
        expect(proven.key.toString('latin1')).toBe(key)
        expect(proven.root.equals(root)).toBe(true)
      }
    }), { numRuns: 60 })
  })

  test('shows what was kept while it goes on', () => {
    fc.assert(fc.property(anyChanges, anyChanges, (before, after) => {
      const tree = new StateTree()
      const put = (changes: typeof before): void => { for (const { contract, key, value } of changes) tree.set(contract, key, value) }
      put(before)
      const root = tree.keep()
      const asked = [...before.slice(0, 20), ...after.slice(0, 20)]
      const shown = asked.map(({ contract, key }) => tree.show(contract, key))
      put(after)
      tree.settle()
      put(after.map(change => ({ ...change, value: new Uint8Array([1, 2, 3]) })))
      expect(asked.map(({ contract, key }) => tree.show(contract, key))).toEqual(shown)
      for (const { contract, key } of asked) expect(verifyStateProof(proofOf(tree, root, contract, key), NODE.did).seq).toBe(5)
    }), { numRuns: 40 })
  })

  test('a value that another key holds, or that the key held before, proves nothing', () => {
    const tree = new StateTree()
    for (let i = 0; i < 500; i++) tree.set('0x001', `k${i}`, Buffer.from(`v${i}`))
    const root = tree.keep()
    const proof = JSON.parse(proofOf(tree, root, '0x001', 'k7')) as Record<string, unknown>
    const b64 = (text: string): string => Buffer.from(text).toString('base64url')
    for (const [fields, reason] of [
      [{ value: b64('v8') }, 'the value is another'],
      [{ value: null }, 'the key is there'],
      [{ key: b64('k8') }, 'its page is of another place'],
      [{ contract: '0x002' }, 'its page is of another place'],
    ] as const) {
      expect(() => verifyStateProof(JSON.stringify({ ...proof, ...fields }), NODE.did)).toThrow(`The proof of state is refused: ${reason}.`)
    }
  })
})
