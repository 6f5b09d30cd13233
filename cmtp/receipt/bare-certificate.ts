/**
 * A node's certificate inside a receipt: without mesh and node, which stand beside it, and put together with them when it is checked.
 */
import { CMeshError } from '../errors.ts'
import { writeUint64 } from '../frame.ts'
import { checkCertificate, type Certificate } from '../identity/certificate.ts'
import type { Reader } from '../reader.ts'

export interface BareCertificate {
  /** ms since 1970. */
  readonly issued: number
  /** 64 bytes. */
  readonly signature: Uint8Array
}

export const CERTIFICATE_BYTES = 72

export function bareCertificate({ issued, signature }: Certificate): BareCertificate {
  return { issued, signature: Buffer.from(signature, 'base64url') }
}

/*
 * certificate: issued ms 8 · signature 64
 */
export function encodeBareCertificate({ issued, signature }: BareCertificate): Buffer {
  const bytes = Buffer.alloc(CERTIFICATE_BYTES)
  writeUint64(bytes, issued, 0)
  bytes.set(signature, 8)
  return bytes
}

export function decodeBareCertificate(reader: Reader): BareCertificate {
  return { issued: reader.count('a time'), signature: reader.take(64, 'a signature') }
}

/** Why a certificate does not say that `who` speaks for the mesh; `undefined` when it does, or none is needed and none is there. */
export function certificateFault(certificate: BareCertificate | undefined, node: string, mesh: string, who: string): string | undefined {
  if (certificate === undefined) return node === mesh ? undefined : `the certificate of the ${who} is missing`
  if (node === mesh) return 'a certificate is where none is needed'
  try {
    checkCertificate({ v: 1, mesh, node, issued: certificate.issued, signature: Buffer.from(certificate.signature).toString('base64url') })
    return undefined
  } catch (error) {
    if (!(error instanceof CMeshError)) throw error
    return `the mesh did not sign the certificate of the ${who}`
  }
}
