/** `mesh.json` in the data directory: how to reach the mesh that runs there. Written when the node is ready, removed when it stops. */
import { readFileSync } from 'node:fs'
import { rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'

export interface MeshDescriptor {
  /** Where clients connect: one NATS URL, or several separated by commas. */
  readonly url: string
  /** The mesh's DID: clients refuse an answer by any other. */
  readonly did: string
  /** The node's name in subjects. */
  readonly node: string
  /** Who held every right when the node started: the DID that the log names, whatever the configuration says. */
  readonly operator: string
  /** Base URL of `/healthz` and `/metrics`. */
  readonly http: string
  readonly version: string
  readonly pid: number
}

export const DESCRIPTOR_FILE = 'mesh.json'

export async function writeDescriptor(dir: string, descriptor: MeshDescriptor): Promise<void> {
  const file = path.join(dir, DESCRIPTOR_FILE)
  await writeFile(`${file}.new`, `${JSON.stringify(descriptor, null, 2)}\n`, { mode: 0o644 })
  await rename(`${file}.new`, file)
}

export async function removeDescriptor(dir: string): Promise<void> {
  await rm(path.join(dir, DESCRIPTOR_FILE), { force: true })
}

/** The version of this package. */
export function packageVersion(): string {
  for (const candidate of ['../package.json', '../../package.json']) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(candidate, import.meta.url), 'utf8')) as { name?: string, version?: string }
      if (name === 'cmesh' && version !== undefined) return version
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
  return '0.0.0'
}
