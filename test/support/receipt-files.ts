/** Receipts of messages that were sealed, as a node would make them: their leaves in one batch, its root signed. */
import { createHash } from 'node:crypto'
import { issueCertificate } from '../../cmtp/identity/certificate.ts'
import type { KeyPair } from '../../cmtp/identity/keys.ts'
import { decodeLayers, sha256 } from '../../cmtp/layer.ts'
import { bareCertificate } from '../../cmtp/receipt/bare-certificate.ts'
import { leafHashes, MerkleTree } from '../../cmtp/receipt/merkle.ts'
import { decodeSealing, encodeReceipt, type Evidence, type Receipt } from '../../cmtp/receipt/receipt.ts'
import { encodeRootRecord } from '../../cmtp/receipt/root.ts'
import { specContent, specTexts } from './final-hash.ts'
import type { Sealed, Witness } from './receipts.ts'

/** What a receipt says of one message. */
export type Told = Pick<Receipt, 'version' | 'id' | 'status' | 'content' | 'sid' | 'sub' | 'layers' | 'final'> & { readonly evidence?: Evidence | undefined }

const layerHash = (layer: Uint8Array): Buffer => createHash('sha256').update(Buffer.of(4)).update(layer).digest()

/** From a reply at level `full`. */
export function toldByReply(reply: Sealed, { id, sid, sub, requestBody = Buffer.alloc(0) }: Witness, evidence?: Evidence): Told {
  const { salt, layers } = decodeLayers(reply.layers)
  const content = specContent({ id, sid, sub, requestBody, salt, status: reply.status, replyBody: reply.body, replyHeaders: reply.headers })
  const shown = layers.map(layer => ({ hash: layerHash(layer.bytes), shown: { layer: layer.bytes, texts: specTexts(layer) } }))
  return { version: 1, id, status: reply.status, content, sid, sub, layers: shown, final: reply.finalHash, evidence }
}

/** From a sealer's record, the texts of its layers and the final hash it gave. */
export function toldByRecord(record: Buffer, texts: readonly Uint8Array[], final: string, evidence?: Evidence): Told {
  const { salt: _salt, layers, ...bound } = decodeSealing(record)
  const shown = layers.map((layer, i) => ({ hash: layerHash(layer), shown: { layer, texts: texts[i] as Uint8Array } }))
  return { ...bound, layers: shown, final: Buffer.from(final, 'latin1'), evidence }
}

export interface Auditor {
  readonly mesh: KeyPair
  /** The mesh's own, or another that it certifies. */
  readonly node: KeyPair
  readonly batch?: number
  readonly timeUs?: number
}

/** The receipts of one batch, in the order of its messages. */
export function receiptsOf(messages: readonly Told[], { mesh, node, batch = 3, timeUs = 1_800_000_000_000_000 }: Auditor): Buffer[] {
  const tree = new MerkleTree(leafHashes(Buffer.concat(messages.flatMap(({ id, final }) => [id, final]))))
  const root = encodeRootRecord({
    mesh: mesh.did, node: node.did, log: Buffer.from(sha256(Buffer.from(node.did)), 'latin1'), batch, first: batch * 1_000, count: messages.length,
    merkleRoot: tree.root, previous: Buffer.alloc(32, batch === 0 ? 0 : 7), timeUs,
  }, bytes => node.sign(bytes))
  const certificate = node.did === mesh.did ? undefined : bareCertificate(issueCertificate(node.did, mesh, 1_700_000_000_000))
  return messages.map((message, index) => encodeReceipt({ ...message, evidence: message.evidence, index, path: tree.path(index), root, certificate }))
}
