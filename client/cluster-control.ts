/** Speaks to the supervisor of a cluster on this machine, by the port and the token in its `cluster/control.json`. */
import { readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { CMeshError } from '../cmtp/errors.ts'

/** A process of the cluster. */
export interface ClusterPart {
  readonly name: string
  readonly pid?: number
  readonly http?: string
  readonly did?: string
}

interface Said {
  readonly step?: string
  readonly parts?: readonly ClusterPart[]
  readonly error?: unknown
}

/** Resolves with the cluster's processes when it is done. Rejects with what the supervisor said, or `CMESH_CLIENT_NO_MESH`. */
export async function askSupervisor(
  dataDir: string, command: 'restart' | 'show', onStep: (step: string) => void, signal: AbortSignal,
): Promise<readonly ClusterPart[]> {
  const file = path.join(dataDir, 'cluster', 'control.json')
  const away = (reason: string, cause?: unknown): CMeshError => new CMeshError('CMESH_CLIENT_NO_MESH', { url: file, reason }, { cause })
  let port: unknown
  let token: unknown
  try {
    ({ port, token } = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>)
  } catch (cause) {
    throw away('no cluster was started from this data directory', cause)
  }
  const socket = connect({ host: '127.0.0.1', port: Number(port) })
  const stop = (): void => { socket.destroy() }
  signal.addEventListener('abort', stop, { once: true })
  try {
    socket.write(`${JSON.stringify({ token, command })}\n`)
    let parts: readonly ClusterPart[] | undefined
    for await (const line of createInterface({ input: socket })) {
      const said = JSON.parse(line) as Said
      if (said.error !== undefined) throw CMeshError.fromWire(said.error)
      if (said.step !== undefined) onStep(said.step)
      parts = said.parts ?? parts
    }
    if (signal.aborted) throw new CMeshError('CMESH_CLIENT_ABORTED')
    if (parts === undefined) throw away('its supervisor is gone')
    return parts
  } catch (error) {
    if (signal.aborted) throw new CMeshError('CMESH_CLIENT_ABORTED', {}, { cause: error })
    throw error instanceof CMeshError ? error : away('its supervisor does not answer', error)
  } finally {
    signal.removeEventListener('abort', stop)
    socket.destroy()
  }
}
