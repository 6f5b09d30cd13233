/**
 * Where a mesh is. A node leaves a descriptor in its data directory; this file finds and reads it, and never writes one.
 */
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'

export interface MeshDescriptor {
  /** The broker's URL. */
  readonly url: string
  /** The DID of the mesh, which is the audience of handshakes. */
  readonly did: string
  /** The DID of the node that runs there. */
  readonly node: string
  /** The DID that held every right when the node started, as its log has it. Absent where a node from before wrote it. */
  readonly operator?: string
  /** Base URL of health and metrics. */
  readonly http: string
  readonly version: string
  readonly pid: number
}

export interface MeshLocation {
  /** Default: `CMESH_URL`, then the `url` of the descriptor. */
  readonly url?: string | undefined
  /** The node's data directory. Default: `CMESH_DATA_DIR`, then `cmesh` under `XDG_DATA_HOME` or `~/.local/share`. */
  readonly dataDir?: string | undefined
}

/** The data directory that a node uses by default. */
export function defaultDataDir(env: NodeJS.ProcessEnv = process.env): string {
  return env['CMESH_DATA_DIR'] || join(env['XDG_DATA_HOME'] || join(homedir(), '.local', 'share'), 'cmesh')
}

export function descriptorPath(dataDir: string): string {
  return join(dataDir, 'mesh.json')
}

/** Reads the descriptor in `dataDir`; `undefined` when there is none. Throws `CMESH_CLIENT_NO_MESH` for one that cannot be used. */
export async function readDescriptor(dataDir: string): Promise<MeshDescriptor | undefined> {
  const path = descriptorPath(dataDir)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    if (isMissing(cause)) return undefined
    throw unusable(path, `it cannot be read (${cause instanceof Error ? cause.message : String(cause)})`, cause)
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw unusable(path, 'the descriptor is not JSON', cause)
  }
  if (!isDescriptor(value)) throw unusable(path, 'the descriptor lacks url, did, node, http, version or pid')
  return value
}

/** The mesh's URL, and its descriptor when that is where the URL comes from. Throws `CMESH_CLIENT_NO_MESH`. */
export async function locateMesh(
  location: MeshLocation, env: NodeJS.ProcessEnv = process.env,
): Promise<{ readonly url: string, readonly descriptor: MeshDescriptor | undefined }> {
  // Who names a data directory means the mesh in it, whatever the environment says of another.
  const url = location.url ?? (location.dataDir === undefined ? env['CMESH_URL'] : undefined)
  if (url !== undefined && url !== '') return { url, descriptor: undefined }
  const dataDir = location.dataDir ?? defaultDataDir(env)
  const descriptor = await readDescriptor(dataDir)
  if (descriptor === undefined) throw unusable(descriptorPath(dataDir), 'there is no descriptor of a running mesh')
  return { url: descriptor.url, descriptor }
}

function isDescriptor(value: unknown): value is MeshDescriptor {
  if (typeof value !== 'object' || value === null) return false
  const fields = value as Record<string, unknown>
  return ['url', 'did', 'node', 'http', 'version'].every((key) => typeof fields[key] === 'string')
    && typeof fields['pid'] === 'number'
}

function isMissing(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
}

function unusable(path: string, reason: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_CLIENT_NO_MESH', { url: path, reason }, cause === undefined ? undefined : { cause })
}
