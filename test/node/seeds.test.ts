/** The grants of the configuration at a start: what the mesh refuses of them is left out, and what it could not order fails the start. */
import { afterEach, expect, test } from '@jest/globals'
import { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { parsePermissions } from '../../cmtp/permission.ts'
import { orderSeeds, type SeedParts } from '../../node/seeds.ts'
import { GrantBook } from '../../services/iam/grant-book.ts'
import { failureOf } from '../support/iam.ts'
import { startMesh, type TestMesh } from '../support/mesh.ts'

const meshes: TestMesh[] = []
afterEach(async () => { for (const mesh of meshes.splice(0)) await mesh.stop() })

async function started(granted: Readonly<Record<string, readonly string[]>>): Promise<TestMesh & { readonly parts: SeedParts }> {
  const mesh = await startMesh()
  meshes.push(mesh)
  const { node, state, operator, time, log } = mesh
  const book = new GrantBook({ records: () => state.system, node, operator: operator.did, now: time.nowMs })
  const parts = { book, state, node, log, granted: new Map(Object.entries(granted).map(([did, words]) => [did, parsePermissions(words)])) }
  return { ...mesh, parts }
}

test('a grant that the mesh refuses is told of and left out, at every start; the others stand', async () => {
  const [full, other] = [KeyPair.generate().did, KeyPair.generate().did]
  const words = Array.from({ length: 256 }, (_, i) => `read 0xS:0x${(i + 16).toString(16).padStart(3, '0')}:get`)
  const { parts, log, state } = await started({ [full]: words, [other]: ['read 0xS:0x001:get'] })
  await state.orderOwn('0xIW:grant', { did: full, permission: 'read 0xS:0x001:get' })
  for (const starts of [1, 2]) {
    await orderSeeds(parts)
    expect([parts.book.grants(full).length, parts.book.grants(other).length]).toEqual([256, 1])
    const said = log.lines.filter(line => line.message === 'a grant of iam.grants was refused; the node goes on without it')
    expect(said.map(({ level, fields }) => [level, fields['code'], fields['did'], fields['permission']])).toEqual(
      Array.from({ length: starts }, () => ['warn', 'CMESH_IAM_GRANT', full, words.at(-1)]),
    )
  }
})

test('a grant that could not be ordered now fails the start, as any order does', async () => {
  const { parts } = await started({ [KeyPair.generate().did]: ['read 0xS:0x001:get'] })
  for (const code of ['CMESH_IAM_STALE', 'CMESH_INTERNAL'] as const) {
    const orderOwn = (): Promise<void> => Promise.reject(new CMeshError(code))
    expect(await failureOf(() => orderSeeds({ ...parts, state: { orderOwn } }))).toMatchObject({ code })
  }
})
