/**
 * The language of the mesh, as a table of contents: addresses, names, subjects, messages, layers, permissions, identity, errors
 * and limits. No I/O. `SPEC.md` beside this file is the normative text.
 */

// --- addresses, names and subjects
export { formatFqmn, isContractAddress, isSegment, parseFqmn, RouteCache, type Route, type ServiceLetter } from './fqmn.ts'
export { isMeshName, nameSkeleton, normaliseName } from './name.ts'
export {
  CARRIED_WILDCARD, carriedSubject, channelOfSubject, connectionOfHello, controlSubject, decodeToken, encodeToken, EVENT_WILDCARD, eventSubject,
  HELLO_WILDCARD, helloNodeSubject, helloSubject, IAM_QUEUE, INBOX_PREFIX, inboxPrefix, isReplyOf, MINE_WILDCARD, mineSubject, originOfSubject,
  REQUEST_WILDCARD, requestSubject, REVOKED_SUBJECT, ROUTER_QUEUE, serviceSubject, sessionOfMine, sessionOfSubject,
} from './subject.ts'

// --- messages
export { entryId, formatMessageId, MESSAGE_ID_BYTES, MessageIds } from './message-id.ts'
export { decodeHeaders, encodeHeaders, headerValue, type HeaderList } from './headers.ts'
export {
  frameKind, KIND_BATCH_REPLY, KIND_BATCH_REQUEST, KIND_REPLY, KIND_REQUEST, VERSION, type FrameKind, type ReceiptLevel,
} from './wire.ts'
export {
  encodeReply, encodeRequest, ReplyFrame, RequestFrame, salvageMessageId, type ReplyFields, type RequestFields,
} from './frame.ts'
export { assembleBatch, BATCH_ID_AT, BatchFrame, encodeBatch, encodeBatchEntry, type BatchEntryFields, type BatchEnvelope, type BatchFields } from './batch.ts'
export { BatchReplyEntry, BatchReplyWriter, decodeBatchReply, type BatchReply } from './batch-reply.ts'
export { BUNDLE_TOKEN, bundleToken, BundleWriter, decodeBundle, takesBundle, type BundledReply } from './bundle.ts'
export {
  argumentsHash, decodeLayer, decodeLayers, EMPTY_HASH, encodeLayer, encodeLayers, layerSite, SALT_BYTES, sha256, siteAt,
  type DecodedLayer, type Decision, type Hop, type Layer, type LayerSite, type StatePosition,
} from './layer.ts'
export { LayerSealer, type Binding } from './sealer.ts'
export {
  codeHash, contractAddress, decodePackage, encodePackage, PACKAGE_SALT_BYTES, packageManifest, packageSigningBytes, proxyAddress, signPackage, signProxy,
  splitSigned, verifyPackage, verifyProxy, type ContractManifest, type ContractPackage, type ContractStrategy, type PackagePurpose, type ProxyRequest,
} from './package.ts'

// --- permissions
export {
  actionName, actionOf, ACTIONS, allowedBy, compilePermissions, covers, formatPermission, formatPermissions, intersectPermissions,
  MAX_PERMISSIONS, NEWCOMER_READ_SET, normalPermissions, OPERATOR_SET, parsePermission, parsePermissions,
  type Action, type ActionName, type CompiledPermissions, type Permission,
} from './permission.ts'

// --- identity
export { checkCertificate, formatCertificate, issueCertificate, parseCertificate, type Certificate } from './identity/certificate.ts'
export { canonicalBytes, canonicalJson, parseCanonicalJson } from './identity/canonical-json.ts'
export { decodeDid, didFromSegment, didToSegment, encodeDid, isDid } from './identity/did.ts'
export { KeyPair, PublicKey, type OkpJwk } from './identity/keys.ts'
export { checkKeySet, type KeySet } from './identity/key-set.ts'
export { makeRequestProof, needsProof, PROOF_HEADER } from './identity/request-proof.ts'
export { hangup, login, refresh, type LoginOptions, type SendStep, type Session } from './identity/login.ts'
export { nameRecordBytes, signNameRecord, verifyNameRecord, type SignableNameRecord } from './identity/name-record.ts'
export {
  checkDidProof, checkMockProof, makeDidProof, makeMockProof, mockChallenge, type DidProof, type MockProof,
} from './identity/proof.ts'
export {
  decodeToken as decodeSessionToken, readClaims, TOKEN_ALGORITHM, TOKEN_AUDIENCE, TOKEN_TYPE, TOKEN_VERSION, tokenReference,
  writeClaims, type TokenClaims,
} from './identity/token.ts'
export { readMessage, type HandshakeAction, type Step } from './identity/messages.ts'
export {
  callHash, checkAnswer, checkConfirm, checkConsent, checkGrant, checkRenewal, checkSession, handshakeContext, makeCall, makeConfirm,
  makeConsent, makeRenewal, type HandshakeContext,
} from './identity/handshake.ts'

// --- errors and limits
export { CATALOGUE, CMeshError, type ErrorCode, type ErrorDetail, type RetryClass, type WireError } from './errors.ts'
export { LIMITS, type Limits } from './limits.ts'
