/** The language of the mesh: addresses, subjects, messages, layers, errors and limits. No I/O. */
export { CATALOGUE, CMeshError, type ErrorCode, type ErrorDetail, type RetryClass, type WireError } from './errors.ts'
export { LIMITS, type Limits } from './limits.ts'
export { formatFqmn, isContractAddress, isSegment, parseFqmn, RouteCache, type Route, type ServiceLetter } from './fqmn.ts'
export * from './subject.ts'
export { entryId, formatMessageId, MESSAGE_ID_BYTES, MessageIds } from './message-id.ts'
export { decodeHeaders, encodeHeaders, headerValue, type HeaderList } from './headers.ts'
export { frameKind, KIND_BATCH_REPLY, KIND_BATCH_REQUEST, KIND_REPLY, KIND_REQUEST, VERSION, type FrameKind, type ReceiptLevel } from './wire.ts'
export { encodeReply, encodeRequest, ReplyFrame, RequestFrame, salvageMessageId, type ReplyFields, type RequestFields } from './frame.ts'
export {
  BatchFrame, BatchReplyWriter, decodeBatchReply, encodeBatch, type BatchEntryFields, type BatchFields, type BatchReply, type BatchReplyEntry,
} from './batch.ts'
export {
  argumentsHash, decodeLayer, decodeLayers, EMPTY_HASH, encodeLayers, LayerSealer, layerSite, sha256,
  type Binding, type DecodedLayer, type Decision, type Hop, type Layer, type LayerSite, type StatePosition,
} from './layer.ts'
export { codeHash, contractAddress, decodePackage, encodePackage, type ContractManifest, type ContractPackage } from './package.ts'
