/**
 * Rotation as an identity's owner does it with a mesh: commits to the next DID, sends the order by which that one takes its place, and brings along
 * on one mesh what was rotated on another. What is kept of it at this machine is `rotation-store.ts`'s.
 */
import { CMeshError } from '../cmtp/errors.ts'
import { KeyPair } from '../cmtp/identity/keys.ts'
import { commitmentTo } from '../cmtp/identity/rotation.ts'
import type { MeshClient } from './mesh-client.ts'
import type { PendingRotation, RotationStore } from './rotation-store.ts'
import type { VerbOptions } from './verbs.ts'

/** What a mesh knows of a DID's rotation. */
export interface RotationInfo {
  readonly did: string
  /** What it committed to. */
  readonly next: string | null
  /** Which DID counts for it today. */
  readonly rotatedTo: string | null
  readonly rotatedFrom: readonly string[]
}

/** What became of an order. */
export interface Rotated {
  readonly old: string
  readonly did: string
  readonly next: string
  readonly seq: number
  readonly moved: { readonly grants: number, readonly capabilities: number, readonly names: number }
}

/** A client whose session is of that key. Whoever opens one closes it. */
export type Opener = <T>(key: KeyPair, use: (client: MeshClient) => Promise<T>) => Promise<T>

/** `did`: default the caller's own. */
export async function rotationOf(client: MeshClient, did?: string, options: VerbOptions = {}): Promise<RotationInfo> {
  return (await client.call(did === undefined ? '0xI:rotation' : `0xI:rotation:${JSON.stringify([did])}`, options)).json<RotationInfo>()
}

/**
 * How an identity stands with a mesh: the mesh holds what was made here (`committed`) or something else (`another`); or nothing, because the
 * identity was `imported`, or is what another one here has committed to (`awaited`), and what has committed takes no place any more.
 */
export type Standing = 'committed' | 'another' | 'imported' | 'awaited'

export interface Prepared {
  readonly standing: Standing
  /** Rotations that were brought along. */
  readonly followed: number
}

/**
 * Commits the identity `name`, whose session `client` has, to its next root on this mesh, where it has not yet, after its rotations were brought
 * along. Only what was made here is ever told to a mesh; what the mesh says is compared with it, and is that mesh's own matter where it is
 * another. `commit`: an imported identity too. Rejects with what the mesh refuses it with.
 */
export async function prepareRotation(
  client: MeshClient, store: RotationStore, name: string, open: Opener,
  { commit: always = false, ...options }: VerbOptions & { readonly commit?: boolean } = {},
): Promise<Prepared> {
  const followed = await followRotations(client, store, name, open)
  const [{ next }, { imported, awaitedBy }] = [await rotationOf(client, undefined, options), await store.heldBack(name)]
  if (next !== null) {
    // Nothing is made for what came from elsewhere: the mesh most likely holds what was made there.
    const own = imported ? (await store.state(name)).commitment : await store.commitment(name)
    return { standing: next === own ? 'committed' : 'another', followed }
  }
  if (awaitedBy !== undefined) return { standing: 'awaited', followed }
  if (imported && !always) return { standing: 'imported', followed }
  await commit(client, await store.commitment(name), options)
  return { standing: 'committed', followed }
}

/** Sends the order. Asked again after it was done it is done no second time. Rejects with `CMESH_IAM_ROTATION` for what the mesh refuses. */
export async function sendRotation(
  client: MeshClient, { old, next }: { readonly old: string, readonly next: string }, options: VerbOptions = {},
): Promise<Rotated> {
  return (await client.call('0xIW:rotate', { ...options, body: JSON.stringify({ mesh: client.mesh, old, next }) })).json<Rotated>()
}

/**
 * Takes the rotation of `name` to its end: the plan is kept before the mesh hears of it, and the identity is replaced once the mesh has done it, so
 * that nothing is lost wherever it is cut off; done again, it goes on from there. A plan that the mesh refuses is forgotten.
 */
export async function completeRotation(store: RotationStore, name: string, plan: PendingRotation, open: Opener): Promise<Rotated> {
  const pending = await store.begin(name, plan)
  try {
    const key = KeyPair.fromSeed(Buffer.from(pending.file.seed, 'base64url'))
    const rotated = await open(key, client => sendRotation(client, { old: pending.old, next: pending.next.commitment }))
    await store.finish(name)
    return rotated
  } catch (error) {
    if (error instanceof CMeshError && error.code === 'CMESH_IAM_ROTATION') await store.abandon(name)
    throw error
  }
}

/**
 * The identity `name`, whose words came from elsewhere, takes the place of the DID `from`, of which nothing is here. That is kept before the mesh
 * hears of it, so that other meshes follow as well; and forgotten where the mesh refuses it.
 */
export async function takePlaceOf(client: MeshClient, store: RotationStore, name: string, from: string, options: VerbOptions = {}): Promise<Rotated> {
  const next = await store.commitment(name)
  const before = await store.takes(name, from)
  try {
    return await sendRotation(client, { old: from, next }, options)
  } catch (error) {
    if (error instanceof CMeshError && error.code === 'CMESH_IAM_ROTATION') await store.takes(name, before)
    throw error
  }
}

/**
 * Brings along, on the mesh of `client`, which has a session of it, rotations of `name` that were made on another: each step that this mesh holds
 * the commitment for, and whose new DID has committed to nothing there. Resolves with how many.
 */
export async function followRotations(client: MeshClient, store: RotationStore, name: string, open: Opener): Promise<number> {
  const steps = await store.steps(name)
  let followed = 0
  for (const { old, to } of steps) {
    const { next, rotatedTo } = await rotationOf(client, old)
    if (rotatedTo !== null || next !== commitmentTo(to.did) || (await rotationOf(client, to.did)).next !== null) continue
    const after = steps.find(step => step.old === to.did)?.to
    const order = { old, next: after === undefined ? await store.commitment(name) : commitmentTo(after.did) }
    await (after === undefined ? sendRotation(client, order) : open(to, own => sendRotation(own, order)))
    followed++
  }
  return followed
}

async function commit(client: MeshClient, next: string, options: VerbOptions): Promise<void> {
  await client.call('0xIW:prepare', { ...options, body: JSON.stringify({ mesh: client.mesh, next }) })
}
