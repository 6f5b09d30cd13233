/** Claims of members over a write: over its outcome, and, as they were once, over the state behind it with made-up blocks between the two. */
import { signClaim } from '../../cmtp/claim.ts'
import { issueCertificate } from '../../cmtp/identity/certificate.ts'
import type { KeyPair } from '../../cmtp/identity/keys.ts'
import type { StatePosition } from '../../cmtp/layer.ts'
import { bareCertificate } from '../../cmtp/receipt/bare-certificate.ts'
import { leafHash, MerkleTree } from '../../cmtp/receipt/merkle.ts'
import type { OutcomeEvidence } from '../../cmtp/receipt/outcome-evidence.ts'
import { outcomeLeaf, signOutcomes, type Outcome } from '../../cmtp/receipt/outcome.ts'
import type { Link, LinkEvidence } from '../../cmtp/receipt/evidence.ts'
import { checkpointChain, checkpointHead } from '../../cmtp/state-hash.ts'

/** Member `i` claims the state `i` blocks behind the write. */
export function evidenceOf(after: StatePosition, mesh: KeyPair, members: readonly KeyPair[]): LinkEvidence {
  const links: Link[] = []
  const positions = [after]
  for (let i = 1; i < members.length; i++) {
    const { epoch, seq, chain } = positions[i - 1] as StatePosition
    const head = checkpointHead({ root: Buffer.alloc(32, i), epoch, seq: seq + 1, timeMs: 1_800_000_000_000 + i })
    const link = { head, rest: Buffer.alloc(32, 0x40 + i) }
    links.push(link)
    positions.push({ epoch, seq: seq + 1, chain: checkpointChain(chain, link.head, link.rest) })
  }
  const claims = members.map((member, at) => {
    const { epoch, seq, chain } = positions[at] as StatePosition
    const claim = { did: member.did, epoch, seq, chain: Buffer.from(chain).toString('hex'), level: 'os' as const, out: seq, timeMs: 1_800_000_000_500, version: '0.1.0' }
    return {
      at, member: member.publicKey.toBytes(), level: claim.level, out: claim.out, timeMs: claim.timeMs, version: claim.version,
      certificate: member.did === mesh.did ? undefined : bareCertificate(issueCertificate(member.did, mesh, 1_700_000_000_001)),
      signature: Buffer.from(signClaim(claim, member).signature, 'base64url'),
    }
  })
  return { version: 1, links, claims }
}

/** All of them claim the outcome, which stands at `index` among `count` under the root. */
export function outcomeEvidenceOf(outcome: Outcome, mesh: KeyPair, members: readonly KeyPair[], { index = 0, count = 1, level = 'disk' as const } = {}): OutcomeEvidence {
  const leaves = Array.from({ length: count }, (_, i) => (i === index ? outcomeLeaf(outcome) : leafHash(Buffer.alloc(16, i), Buffer.alloc(32, i))))
  const tree = new MerkleTree(Buffer.concat(leaves))
  const claims = members.map(member => {
    const claim = { did: member.did, root: tree.root, count, members: members.length, level, timeMs: 1_800_000_000_500 }
    return {
      member: member.publicKey.toBytes(), level, timeMs: claim.timeMs,
      certificate: member.did === mesh.did ? undefined : bareCertificate(issueCertificate(member.did, mesh, 1_700_000_000_001)),
      signature: Buffer.from(signOutcomes(claim, member)),
    }
  })
  return { version: 2, members: members.length, asked: outcome.asked, result: outcome.result, index, count, path: tree.path(index), claims }
}
