/**
 * The SDK: `connect` to a mesh, `call` its addresses. This file is its table of contents; what it does not export is not
 * part of it.
 */
export { connect, type ConnectOptions } from './connect.ts'
export type { BatchEntry, BatchOptions, CallOptions, TraceHeaders } from './call.ts'
export { MeshClient } from './mesh-client.ts'
export { Reply } from './reply.ts'
export type { NameRecord } from './names.ts'
export type { EventRange, GroupInfo, Published } from './channels.ts'
export type { FailedEvent, GroupEvent, GroupHandler, GroupMember, GroupOptions, GroupTerms } from './group.ts'
export type { ChannelEvent, EventHandler, EventOrigin, Subscription } from './subscription.ts'
export type {
  CodeOptions, ComparedCall, ContractInfo, ContractVersion, Deployment, DeployOptions, DryDeployment, DryOutcome, DryReplacement, DryRunOptions, FunctionInfo,
  ProxyContract, ProxyOptions, RecordedCall, Replacement,
} from './contract-types.ts'
export { DeadLetters, type DeadLetter, type LetterLayer, type LetterOutline, type LetterPage, type LetterRange } from './dead-letters.ts'
export { DelayedCalls, type DelayedCallInfo, type DelayedCallOptions, type DelayedCallReceipt } from './later.ts'
export type { VerbOptions } from './verbs.ts'
export type { ConnectionStatus } from './connection.ts'
export { defaultDataDir, locateMesh, readDescriptor, type MeshDescriptor, type MeshLocation } from './descriptor.ts'
export { configDirectory, IdentityStore } from './identity-store.ts'
export { CMeshError, type ErrorCode, type ErrorDetail, type RetryClass } from '../cmtp/errors.ts'
export type { HeaderList } from '../cmtp/headers.ts'
export type { DecodedLayer } from '../cmtp/layer.ts'
export type { PersonChallenge } from '../cmtp/identity/paired-proof.ts'
export { KeyPair } from '../cmtp/identity/keys.ts'
export type { ReadLevel } from './options.ts'
export type { ReceiptLevel } from '../cmtp/wire.ts'
