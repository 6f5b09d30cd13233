/**
 * The error catalogue: every code that CMesh gives, with its status, whether trying again helps, and a message that
 * names the component, the property and the fix. Callers branch on `code`, never on text. Nothing secret goes into a
 * detail: details cross the wire. `docs/errors.md` is held equal to this file by a test.
 */

/** `terminal`: the same request fails again. `retry`: it may succeed later. `bug`: CMesh is at fault; please report it. */
export type RetryClass = 'terminal' | 'retry' | 'bug'

interface Entry {
  readonly status: number
  readonly retry: RetryClass
  /** `{word}` is replaced by the detail of that name. */
  readonly message: string
}

export const CATALOGUE = {
  // --- addresses
  CMESH_FQMN_SYNTAX: { status: 400, retry: 'terminal', message: 'The FQMN is malformed at byte {offset}: expected {expected}.' },
  CMESH_FQMN_OPCODE: { status: 400, retry: 'terminal', message: 'The FQMN has an unknown opcode at byte {offset}: expected 0x followed by one of I, R, S, E, A, C, P, and W for a write.' },
  CMESH_FQMN_TOO_LONG: { status: 400, retry: 'terminal', message: 'The FQMN is {bytes} bytes long; at most {limit} are allowed. Put large arguments in the body.' },
  CMESH_FQMN_TOO_DEEP: { status: 400, retry: 'terminal', message: 'The FQMN nests more than {limit} opcodes (byte {offset}).' },
  CMESH_FQMN_ARGUMENTS: { status: 400, retry: 'terminal', message: 'The arguments at byte {offset} are not a JSON array: expected {expected}.' },
  CMESH_FQMN_ARGUMENTS_TWICE: { status: 400, retry: 'terminal', message: 'Arguments stand in the address and in the body: give them in one place.' },
  CMESH_NAME_INVALID: { status: 400, retry: 'terminal', message: 'The name {name} is not valid: {reason}.' },
  CMESH_NAME_CONFUSABLE: { status: 409, retry: 'terminal', message: 'The name {name} looks like the registered name {existing} and is refused.' },

  // --- frames
  CMESH_FRAME_MALFORMED: { status: 400, retry: 'terminal', message: 'The frame is malformed at byte {offset}: expected {expected}.' },
  CMESH_FRAME_VERSION: { status: 505, retry: 'terminal', message: 'The frame has major version {version}; this node speaks CMTP/{supported}.' },
  CMESH_FRAME_FLAGS: { status: 400, retry: 'terminal', message: 'The frame sets unknown flag bits {flags}.' },
  CMESH_FRAME_TOO_LARGE: { status: 413, retry: 'terminal', message: 'The {part} has {bytes} bytes; at most {limit} are allowed.' },
  CMESH_FRAME_DEADLINE: { status: 400, retry: 'terminal', message: 'The deadline lies more than {limit} ms ahead.' },
  CMESH_FRAME_HOPS: { status: 508, retry: 'terminal', message: 'The message took more than {limit} hops.' },
  CMESH_FRAME_JSON: { status: 400, retry: 'terminal', message: 'The JSON at {path} is refused: {reason}.' },

  // --- identity
  CMESH_IAM_NO_SESSION: { status: 401, retry: 'terminal', message: 'No valid session: {reason}. Start the identity handshake (`cmesh login`).' },
  CMESH_IAM_TOKEN: { status: 401, retry: 'retry', message: 'The request refers to a session token that this node has not seen: send the token itself.' },
  CMESH_IAM_HANDSHAKE: { status: 401, retry: 'terminal', message: 'The handshake step {step} was refused: {reason}. Start again with a new call.' },
  CMESH_IAM_FORGED: { status: 401, retry: 'terminal', message: 'The {what} is not signed by the key it names.' },
  CMESH_IAM_KEY: { status: 400, retry: 'terminal', message: 'The key is refused: {reason}.' },
  CMESH_IAM_CERTIFICATE: { status: 400, retry: 'terminal', message: 'The certificate of the node is refused: {reason}. Have it issued by the mesh it is to join (`cmesh mesh certify`).' },
  CMESH_IAM_PERMISSION: { status: 400, retry: 'terminal', message: 'The permission {permission} is not valid: {reason}.' },
  CMESH_IAM_DENIED: { status: 403, retry: 'terminal', message: 'Permission {permission} on {fqmn} is missing.' },
  CMESH_IAM_PROVIDER: { status: 500, retry: 'terminal', message: 'The identity provider {provider} cannot start: {reason}.' },
  CMESH_IAM_BUSY: { status: 429, retry: 'retry', message: 'Too much of it is open at once; try again in {retryAfterMs} ms.' },
  CMESH_IAM_UPSTREAM: { status: 502, retry: 'retry', message: 'The {server} did not do its part: {reason}. Start again with a new call.' },
  CMESH_IAM_STALE: { status: 503, retry: 'retry', message: 'The revocation feed has been silent for {silentMs} ms; try again in {retryAfterMs} ms.' },
  CMESH_IAM_PROOF: { status: 403, retry: 'terminal', message: '{fqmn} needs a signature of its own: {reason}.' },
  CMESH_IAM_REVOKED: { status: 401, retry: 'terminal', message: 'The {what} was revoked before the transaction was ordered.' },
  CMESH_IAM_BANNED: { status: 403, retry: 'terminal', message: 'The identity {did} is banned from this mesh: it may do nothing there, not even read, and no new session changes that. The operator, {operator}, can lift the ban (`cmesh authz revoke {did} --unban`), and so can who was granted `write 0xIW:unban`.' },
  CMESH_IAM_CAPABILITY: { status: 403, retry: 'terminal', message: 'The capability is refused: {reason}.' },
  CMESH_IAM_CREDENTIAL: { status: 401, retry: 'terminal', message: 'The credential is refused: {reason}.' },
  CMESH_IAM_GRANT: { status: 409, retry: 'terminal', message: 'The change of grants is refused: {reason}.' },
  CMESH_IAM_ROTATION: { status: 409, retry: 'terminal', message: 'The rotation is refused: {reason}.' },

  // --- router
  CMESH_ROUTER_ACTION: { status: 405, retry: 'terminal', message: 'The {service} service has no action {action} for {access}.' },
  CMESH_ROUTER_INTERNAL_ONLY: { status: 405, retry: 'terminal', message: '{fqmn} is for services only and cannot be called from outside.' },
  CMESH_ROUTER_NO_SERVICE: { status: 503, retry: 'retry', message: 'No {service} service answers in this mesh right now.' },
  CMESH_ROUTER_DEADLINE: { status: 408, retry: 'terminal', message: 'The deadline had passed when the request arrived.' },
  CMESH_ROUTER_TIMEOUT: { status: 504, retry: 'retry', message: 'The deadline passed while the request was under way.' },
  CMESH_ROUTER_UNKNOWN_OUTCOME: { status: 504, retry: 'terminal', message: 'The deadline passed after the transaction {tx} was proposed: its outcome is unknown. Ask 0xC:tx:{tx}.' },
  CMESH_ROUTER_BUSY: { status: 429, retry: 'retry', message: '{what} has {limit} requests in flight already; try again in {retryAfterMs} ms.' },
  CMESH_ROUTER_DRAINING: { status: 503, retry: 'retry', message: 'This node is draining and takes no new requests.' },
  CMESH_ROUTER_DUPLICATE: { status: 409, retry: 'terminal', message: 'The message id {id} was used before in this session.' },
  CMESH_ROUTER_PEER: { status: 503, retry: 'terminal', message: 'No peer mesh {peer} is known to this router.' },

  // --- registrar
  CMESH_REGISTRAR_NOT_FOUND: { status: 404, retry: 'terminal', message: 'The name {name} is not registered.' },
  CMESH_REGISTRAR_TAKEN: { status: 409, retry: 'terminal', message: 'The name {name} is taken by {owner} until {expires}.' },
  CMESH_REGISTRAR_LOOP: { status: 508, retry: 'terminal', message: 'Resolving {name} returns to {again}.' },
  CMESH_REGISTRAR_DEPTH: { status: 508, retry: 'terminal', message: 'Resolving {name} passes through more than {limit} names.' },
  CMESH_REGISTRAR_WRITE_TARGET: { status: 405, retry: 'terminal', message: 'The name {name} maps to {fqmn}, which changes state: call it as 0xRW:{name}.' },
  CMESH_REGISTRAR_READ_TARGET: { status: 405, retry: 'terminal', message: 'The name {name} maps to {fqmn}, which only reads: call it as 0xR:{name}.' },
  CMESH_REGISTRAR_TARGET: { status: 400, retry: 'terminal', message: 'A name cannot map to {fqmn}: {reason}.' },
  CMESH_REGISTRAR_NOT_OWNER: { status: 403, retry: 'terminal', message: 'The name {name} belongs to {owner}; only its owner may {action} it.' },
  CMESH_REGISTRAR_QUOTA: { status: 403, retry: 'terminal', message: 'This identity owns {limit} names already, which is the most one may own.' },
  CMESH_REGISTRAR_SIGNATURE: { status: 403, retry: 'terminal', message: 'The signature over the record of {name} is not by its owner.' },
  CMESH_REGISTRAR_SEQUENCE: { status: 412, retry: 'terminal', message: 'The record of {name} is at sequence {current}, not {expected}: resolve it and sign again.' },

  // --- state and consensus
  CMESH_STATE_MEMBERS: { status: 409, retry: 'terminal', message: 'The members of the mesh cannot be changed so: {reason}.' },
  CMESH_STATE_NOT_MEMBER: { status: 503, retry: 'retry', message: 'This node is no member of the mesh, so that nothing it proposes counts: {reason}.' },
  CMESH_STATE_READ_LEVEL: { status: 400, retry: 'terminal', message: 'How fresh the view has to be cannot be read: {reason}.' },
  CMESH_STATE_DIVERGED: { status: 503, retry: 'retry', message: 'This node holds another log than the members {members}, by sequence {seq} at the latest. It answers for nothing until it is rebuilt from them; start it again.' },
  CMESH_STATE_OTHER_MESH: { status: 409, retry: 'terminal', message: 'The log is that of the mesh {found}, and this node was started for {wanted}.' },
  CMESH_STATE_NO_CONTRACT: { status: 404, retry: 'terminal', message: 'There is no contract {contract}.' },
  CMESH_STATE_NO_CODE: { status: 404, retry: 'terminal', message: 'There is no code with the hash {code}.' },
  CMESH_STATE_NO_FUNCTION: { status: 404, retry: 'terminal', message: 'The contract {contract} has no function {function}.' },
  CMESH_STATE_NOT_A_VIEW: { status: 405, retry: 'terminal', message: 'The function {function} of {contract} changes state: call it as 0xSW.' },
  CMESH_STATE_BLOCK_FULL: { status: 503, retry: 'retry', message: 'The block of transaction {tx} is full; send it again under a new id.' },
  CMESH_STATE_LATER: { status: 409, retry: 'terminal', message: 'The delayed call {id} is refused: {reason}.' },
  CMESH_STATE_FULL: { status: 507, retry: 'retry', message: 'The state log cannot be written: {reason}. The node stops; free space and start it again.' },
  CMESH_STATE_CORRUPT: { status: 500, retry: 'terminal', message: 'The state log in {path} is damaged at block {block}: {reason}.' },
  CMESH_STATE_CLAIM: { status: 500, retry: 'terminal', message: 'What this node has claimed of its log cannot be read in {path}: {reason}. The log may be whole. Move that file aside, see with cmesh verify --data DIR that the log reaches what is known of it elsewhere, and start the node.' },
  CMESH_STATE_UNVOUCHED: { status: 503, retry: 'retry', message: 'This node took in its log up to sequence {seq} on the word of members that are no quorum of those that it names now. Start the other members, and start this one again.' },
  CMESH_STATE_CATCH_UP: { status: 503, retry: 'retry', message: 'The blocks that this node lacks could not be had from other members: {reason}. Start the other members, or wait until they can be reached, and start this one again.' },
  CMESH_STATE_NO_LOG: { status: 404, retry: 'terminal', message: 'There is no state log in {path}: {reason}. Say which data directory by --data or CMESH_DATA_DIR.' },
  CMESH_STATE_BLOCK: { status: 500, retry: 'bug', message: 'The state block {seq} cannot be written: {reason}.' },
  CMESH_STATE_GENESIS: { status: 500, retry: 'terminal', message: 'The genesis transaction is refused: {reason}.' },
  CMESH_STATE_BEHIND: { status: 500, retry: 'terminal', message: 'The log of this node ends at {head}, and this node has acknowledged up to {claimed}: what lies between is lost here. Restore a backup that reaches {claimed}: cmesh restore FILE --data DIR. Among other members, rebuild it from them: move state/ and claim.json in DIR aside and start it. Where neither is left, cmesh consensus accept-loss --data DIR goes on from {head} in a new epoch.' },
  CMESH_STATE_FORKED: { status: 500, retry: 'terminal', message: 'The log of this node has the chain value {chain} at {seq}, and this node has claimed {claimed} there: it is another log. Start on the data directory that this node had before, or restore a backup of it: cmesh restore FILE --data DIR. Among other members, rebuild it from them: move state/ and claim.json in DIR aside and start it. To go on with this one all the same, alone: cmesh consensus accept-loss --data DIR.' },
  CMESH_STATE_HALTED: { status: 503, retry: 'retry', message: 'The state service has halted: {reason}.' },
  CMESH_STATE_CLOCK: { status: 503, retry: 'retry', message: 'The clock of this node cannot be right: {reason}. Nothing acknowledged is lost, and nothing is ordered here until it is. Set the clock of the machine (chronyc makestep, timedatectl); if it is right now and was wrong before, start the node again.' },
  CMESH_STATE_CONDITION: { status: 400, retry: 'terminal', message: 'The header if-match cannot be used: {reason}.' },
  CMESH_STATE_IF_MATCH: { status: 412, retry: 'terminal', message: 'The contract {contract} runs the code {found}, and the call is for {wanted} (if-match). Nothing was done. Look at what changed (cmesh contract inspect), and call again for the code that it runs.' },
  CMESH_STATE_STUCK: { status: 503, retry: 'terminal', message: 'The entry {seq} of epoch {epoch} (SHA-256 {hash}) cannot be applied, and the node stops before it: {reason} Nothing acknowledged is lost. Start the node again with a version of CMesh that can; where every node stops there, its operator lets each of them pass it: cmesh consensus skip --data DIR.' },
  CMESH_STATE_SKIP: { status: 400, retry: 'terminal', message: 'The skip is refused: {reason}.' },
  CMESH_STATE_PROOF: { status: 400, retry: 'terminal', message: 'The proof of state is refused: {reason}.' },
  CMESH_STATE_NO_CHECKPOINT: { status: 503, retry: 'retry', message: 'There is no checkpoint to prove it by: {reason}. One comes within about a minute of writes; `cmesh state checkpoint` orders one now.' },
  CMESH_STATE_SEQUENCE: { status: 404, retry: 'terminal', message: 'The sequence {seq} cannot be asked for: {reason}.' },
  CMESH_STATE_NO_HISTORY: { status: 404, retry: 'terminal', message: 'This node keeps no blocks to read back: its state is in memory alone (state.provider).' },
  CMESH_CONSENSUS_SECOND_NODE: { status: 503, retry: 'terminal', message: 'Another node ({node}) orders the writes at this broker, and the mock provider of consensus serves one node alone. Stop one of the two, give this one a broker of its own, or let a stream order for both (consensus.provider jetstream).' },
  CMESH_CONSENSUS_ALONE: { status: 500, retry: 'terminal', message: 'The log of this node was ordered together with other members ({count}), and under the mock provider of consensus it would go on alone: nobody else would have what it acknowledges. Start it with consensus.provider jetstream. Only where the others and their stream are given up: `cmesh consensus accept-loss --data DIR --alone`, and then start it.' },
  CMESH_CONSENSUS_NOT_ALONE: { status: 409, retry: 'terminal', message: 'The log in {path} lists other members ({count}), which may have what it lacks: in an epoch of its own this node could not go on with them. Nothing was changed. Rebuild it from them: move state/ and claim.json in {path} aside, and start it. Only where they and their stream are given up for good: `cmesh consensus accept-loss --data DIR --alone`.' },
  CMESH_CONSENSUS_SAME_KEY: { status: 503, retry: 'terminal', message: 'Another process runs as the node {node}. Stop one of the two; each node has a data directory and a key of its own.' },
  CMESH_CONSENSUS_FULL: { status: 507, retry: 'retry', message: 'The stream {stream} takes no more: {reason}. The write was not ordered. Free space on the disk of the broker, or raise consensus.maxBytes and start the node again.' },
  CMESH_CONSENSUS_NOT_MIGRATED: { status: 500, retry: 'terminal', message: 'The broker has no stream {stream}, and the log of this node goes up to {head} in epoch {epoch}: the mock provider ordered it, or its stream is gone. `cmesh consensus migrate --data DIR` makes a stream that goes on behind the log in a new epoch, with all data. For one node alone, start it with consensus.provider mock.' },
  CMESH_CONSENSUS_MIGRATED: { status: 409, retry: 'terminal', message: 'There is nothing to migrate: {reason}. Nothing was changed. Start the node with consensus.provider jetstream.' },
  CMESH_CONSENSUS_STREAM_SHORT: { status: 500, retry: 'terminal', message: 'The stream {stream} ends at {end} and the log of this node at {head}: the broker has lost what was ordered. Restore the stream from a copy. If the log is all there is, delete the stream, and `cmesh consensus migrate` makes one that goes on behind the log.' },
  CMESH_CONSENSUS_STREAM_AHEAD: { status: 500, retry: 'terminal', message: 'The stream {stream} begins at {begin} and the log of this node ends at {head}: what lies between is in neither. Start on the data directory that goes with the stream, or restore it from a copy.' },
  CMESH_CONSENSUS_STREAM_OTHER: { status: 500, retry: 'terminal', message: 'The stream {stream} is not the one that the log of this node was ordered by: {reason}. Bring the data directory and the broker together that belong together. A member whose log has gone another way is rebuilt from the others: move state/ and claim.json in its data directory aside, and start it. Behind a loss that was accepted for the whole mesh, delete the stream: nats stream rm {stream}.' },
  CMESH_CONSENSUS_STREAM_LOST: { status: 500, retry: 'terminal', message: 'The stream {stream} was changed by somebody else: {reason}. What this node acknowledged is in its log; it stops before it orders anything twice. Find out who changed it, restore it from a copy, and start the node again.' },
  CMESH_CONSENSUS_OUTVOTED: { status: 503, retry: 'retry', message: 'This node does not give its result of {fqmn}: at sequence {seq} {count} of {members} members have another one. Ask another node, and check this one.' },
  CMESH_CONSENSUS_UNCHECKED: { status: 503, retry: 'retry', message: 'The result of {fqmn} could not be checked: {count} of {members} members gave it in time, this node included, and {quorum} have to. Try again once more of them are there.' },
  CMESH_CONSENSUS_NO_TX: { status: 404, retry: 'terminal', message: 'The transaction {tx} is not known to this log.' },
  CMESH_CONSENSUS_NEWER: { status: 503, retry: 'terminal', message: 'The member {member} ordered a batch of version {version}, and this node reads those up to {known}. It stops before it, so that its state stays that of the others. Start it again with the version of CMesh that the others run.' },
  CMESH_CONSENSUS_BATCH: { status: 500, retry: 'bug', message: 'A proposed batch was refused by the applier: {reason}.' },

  // --- receipts
  CMESH_RECEIPT_FORMAT: { status: 400, retry: 'terminal', message: 'This is no receipt, or it is damaged at byte {offset}: expected {expected}.' },
  CMESH_RECEIPT_TARGET: { status: 409, retry: 'terminal', message: 'Receipts cannot be written to {path}: {reason}. Those that are there are whole; the same command goes on where it ended.' },
  CMESH_RECEIPT_INVALID: { status: 400, retry: 'terminal', message: 'The receipt does not hold ({at}): {reason}.' },
  CMESH_RECEIPT_NOT_REPLAYABLE: { status: 409, retry: 'terminal', message: 'The receipt leaves nothing to run again: {reason}.' },
  CMESH_RECEIPT_OTHER_LOG: { status: 409, retry: 'terminal', message: 'The log has not the state that the receipt speaks of, at block {seq}: {reason}. Replay it on the data directory of a node of that mesh, or on a newer copy of one.' },

  // --- audit
  CMESH_AUDIT_BUSY: { status: 503, retry: 'retry', message: 'This node has {waiting} requests to record and its disk is behind; try again in {retryAfterMs} ms.' },
  CMESH_AUDIT_FULL: { status: 507, retry: 'retry', message: 'The audit log cannot be written: {reason}. A node answers nothing that it cannot record, and stops; free space and start it again.' },
  CMESH_AUDIT_CORRUPT: { status: 500, retry: 'terminal', message: 'The audit log in {path} is damaged at batch {batch}: {reason}.' },
  CMESH_AUDIT_OTHER: { status: 409, retry: 'terminal', message: 'The audit log in {path} is that of the node {writer}, and the key of this one is that of {node}. Put the key back that belongs to this directory (node.key), or give this node a directory of its own (--data, data.dir).' },
  CMESH_AUDIT_BEHIND: { status: 500, retry: 'terminal', message: 'The audit log in {path} has {length} batches, and {noted} were written: it has lost some, and numbers none of them anew. Restore the directory from a copy, or move it aside to begin another log.' },
  CMESH_AUDIT_FORKED: { status: 409, retry: 'terminal', message: 'The audit log in {path} and what is in {other} are not one log: batch {batch} differs. Whoever signed both has rewritten what it answered.' },
  CMESH_AUDIT_LOST: { status: 409, retry: 'terminal', message: 'The audit log in {path} has {length} batches, and {other} has batch {batch} of it, with the root that its node signed: what was answered from batch {length} on is gone from the log.' },
  CMESH_AUDIT_NO_RECEIPT: { status: 404, retry: 'terminal', message: 'There is no receipt of {id} here that you may have: nothing is known of that message, it was another\'s, or its layers are kept no more.' },
  CMESH_AUDIT_UNHEARD: { status: 503, retry: 'retry', message: 'No node that answered has a receipt of {id} that you may have, and {silent} of {asked} others did not answer. Try again when all are there.' },

  // --- events
  CMESH_EVENTS_NO_CHANNEL: { status: 404, retry: 'terminal', message: 'The channel {channel} has no events.' },
  CMESH_EVENTS_RESERVED: { status: 403, retry: 'terminal', message: 'The channel {channel} is reserved: only services publish there.' },
  CMESH_EVENTS_PAYLOAD: { status: 413, retry: 'terminal', message: 'The event has {bytes} bytes; at most {limit} are allowed.' },
  CMESH_EVENTS_CHANNEL: { status: 400, retry: 'terminal', message: 'The channel {channel} is not valid: {reason}.' },
  CMESH_EVENTS_TAIL: { status: 403, retry: 'terminal', message: 'The live tail is refused: {reason}.' },
  CMESH_EVENTS_RANGE: { status: 400, retry: 'terminal', message: 'The range is not valid: {reason}.' },
  CMESH_EVENTS_GROUP: { status: 409, retry: 'terminal', message: 'The group {group} of channel {channel} refuses: {reason}.' },
  CMESH_EVENTS_NO_GROUP: { status: 404, retry: 'terminal', message: 'The channel {channel} has no group {group}; who opens it makes one.' },
  CMESH_EVENTS_NO_LETTER: { status: 404, retry: 'terminal', message: 'There is no dead letter {id} that you may see.' },
  CMESH_EVENTS_NOT_HANDLED: { status: 504, retry: 'retry', message: 'Nobody finished event {seq} of channel {channel} within {ackWaitMs} ms.' },

  // --- contracts
  CMESH_CONTRACT_REVERT: { status: 422, retry: 'terminal', message: 'The contract {contract} refused: {reason}' },
  CMESH_CONTRACT_OUT_OF_GAS: { status: 422, retry: 'terminal', message: 'The contract {contract} used up its gas: {reason}.' },
  CMESH_CONTRACT_STACK: { status: 422, retry: 'terminal', message: 'The contract {contract} used up its call stack: {reason}.' },
  CMESH_CONTRACT_TRAP: { status: 422, retry: 'terminal', message: 'The contract {contract} trapped: {reason}.' },
  CMESH_CONTRACT_CALL_DEPTH: { status: 422, retry: 'terminal', message: 'The contract {contract} nested its calls too deeply: {reason}.' },
  CMESH_CONTRACT_READONLY: { status: 422, retry: 'terminal', message: 'The contract {contract} tried to change state in a view.' },
  CMESH_CONTRACT_ABI: { status: 422, retry: 'terminal', message: 'The contract {contract} used a host function wrongly: {reason}.' },
  CMESH_CONTRACT_UTF8: { status: 422, retry: 'terminal', message: 'The contract {contract} handled bytes that are not UTF-8: {reason}.' },
  CMESH_CONTRACT_KEY_SIZE: { status: 422, retry: 'terminal', message: 'The contract {contract} used a key that is too long: {reason}.' },
  CMESH_CONTRACT_VALUE_SIZE: { status: 422, retry: 'terminal', message: 'The contract {contract} wrote a value that is too large: {reason}.' },
  CMESH_CONTRACT_OUTPUT_SIZE: { status: 422, retry: 'terminal', message: 'The contract {contract} gave a result that is too large: {reason}.' },
  CMESH_CONTRACT_MEMORY_OOB: { status: 422, retry: 'terminal', message: 'The contract {contract} pointed outside its memory: {reason}.' },
  CMESH_CONTRACT_ADDRESS: { status: 422, retry: 'terminal', message: 'The contract {contract} called an address that cannot be called: {reason}.' },
  CMESH_CONTRACT_DENIED: { status: 422, retry: 'terminal', message: 'The contract {contract} may not do this: {reason}.' },
  CMESH_CONTRACT_NO_CONTRACT: { status: 422, retry: 'terminal', message: 'The contract {contract} called a contract that does not exist: {reason}.' },
  CMESH_CONTRACT_NO_FUNCTION: { status: 422, retry: 'terminal', message: 'The contract {contract} called a function that does not exist: {reason}.' },
  CMESH_CONTRACT_LIMIT: { status: 422, retry: 'terminal', message: 'The contract {contract} went over a limit: {reason}.' },
  CMESH_CONTRACT_HOST: { status: 500, retry: 'bug', message: 'The host failed while running {contract}: {reason}. Nothing was recorded.' },
  CMESH_DEPLOY_SIZE: { status: 413, retry: 'terminal', message: 'The module has {bytes} bytes; at most {limit} are allowed.' },
  CMESH_DEPLOY_MAGIC: { status: 400, retry: 'terminal', message: 'The module is not WebAssembly 1: {reason}.' },
  CMESH_DEPLOY_MALFORMED: { status: 400, retry: 'terminal', message: 'The package is not valid: {reason}.' },
  CMESH_DEPLOY_SECTION: { status: 400, retry: 'terminal', message: 'The module has a section that is not allowed ({where}): {reason}.{hint}' },
  CMESH_DEPLOY_TYPE: { status: 400, retry: 'terminal', message: 'The module uses a type that is not allowed ({where}): {reason}.{hint}' },
  CMESH_DEPLOY_IMPORT: { status: 400, retry: 'terminal', message: 'The module imports {import}, which is not part of the host interface.{hint}' },
  CMESH_DEPLOY_EXPORT: { status: 400, retry: 'terminal', message: 'The exports of the module are not right at {export}: {reason}.' },
  CMESH_DEPLOY_MEMORY: { status: 400, retry: 'terminal', message: 'The memory of the module is not allowed ({where}): {reason}.{hint}' },
  CMESH_DEPLOY_TABLE: { status: 400, retry: 'terminal', message: 'A table of the module is not allowed ({where}): {reason}.{hint}' },
  CMESH_DEPLOY_GLOBAL: { status: 400, retry: 'terminal', message: 'A global of the module is not allowed ({where}): {reason}.{hint}' },
  CMESH_DEPLOY_OPCODE: { status: 400, retry: 'terminal', message: 'The module has an instruction that is not allowed ({where}): {reason}.{hint}' },
  CMESH_DEPLOY_LIMIT: { status: 400, retry: 'terminal', message: 'The module goes over a limit ({where}): {reason}.{hint}' },
  CMESH_DEPLOY_ABI: { status: 400, retry: 'terminal', message: 'The ABI of the module is not valid: {reason}.' },
  CMESH_DEPLOY_SIGNATURE: { status: 403, retry: 'terminal', message: 'The package is not signed by who deploys it: {reason}.' },
  CMESH_DEPLOY_METER: { status: 409, retry: 'terminal', message: 'Gas is asked to be counted by {asked}; here it is counted by {active}.' },
  CMESH_DEPLOY_OWNER: { status: 403, retry: 'terminal', message: 'The contract {contract} is not yours to replace: its deployer and the operator may.' },
  CMESH_DEPLOY_IMMUTABLE: { status: 409, retry: 'terminal', message: 'The contract {contract} cannot be replaced: {reason}.' },
  CMESH_DEPLOY_EXISTS: { status: 409, retry: 'terminal', message: 'The contract {contract} is deployed already.' },

  // --- node
  CMESH_CONFIG_INVALID: { status: 500, retry: 'terminal', message: 'The setting {key} is not valid: {reason}.' },
  CMESH_CONFIG_UNKNOWN: { status: 500, retry: 'terminal', message: 'The setting {key} is not known. Known here: {known}.' },
  CMESH_CONFIG_PROVIDER: { status: 500, retry: 'terminal', message: 'There is no {service} provider {provider}. Known: {known}.' },
  CMESH_BOOT_FAILED: { status: 500, retry: 'terminal', message: 'Boot stopped at step {step}: {reason}' },
  CMESH_BOOT_OPERATOR: { status: 409, retry: 'terminal', message: 'The operator of this mesh is {recorded}, as its log has it, and not {given}. Who holds every right is recorded when a mesh begins; what is given later changes nothing.' },
  CMESH_BOOT_DATA_IN_USE: { status: 500, retry: 'terminal', message: 'The data directory {path} is in use by process {pid}. Stop that process first, or take another directory (--data, data.dir).' },
  CMESH_CLUSTER_DATA: { status: 500, retry: 'terminal', message: 'The data directory {path} does not go with this cluster: {reason}.' },
  CMESH_CLUSTER_RESTART: { status: 500, retry: 'retry', message: 'The rolling restart stopped at {part}: {reason} What was restarted before serves again; what comes after was left alone.' },
  CMESH_BACKUP_FILE: { status: 400, retry: 'terminal', message: 'The backup {path} cannot be used: {reason}. Nothing was restored from it; take another backup file.' },
  CMESH_BACKUP_TARGET: { status: 409, retry: 'terminal', message: '{path} cannot be written to: {reason}. Nothing that is there was changed; name another place.' },
  CMESH_BOOT_DATA_DIR: { status: 500, retry: 'terminal', message: 'The data directory {path} cannot be used: {reason}. Give the node a directory that the user it runs as can write to, by --data or data.dir.' },
  CMESH_BROKER_NOT_FOUND: { status: 500, retry: 'terminal', message: 'No usable nats-server was found: {tried}. Four ways to get one: (1) set NATS_SERVER_BIN to its path; (2) put nats-server on the PATH; (3) run `npm run setup` where the official release can be downloaded; (4) on Debian or Ubuntu, run `npm run setup`, which uses apt-get download without root. Or give an existing cluster by CMESH_NATS_URL.' },
  CMESH_BROKER_FAILED: { status: 500, retry: 'terminal', message: 'The nats-server did not start: {reason}' },
  CMESH_BROKER_ACCOUNTS: { status: 500, retry: 'terminal', message: 'The broker\'s accounts cannot be used: {reason}.' },
  CMESH_BUS_DISCONNECTED: { status: 503, retry: 'retry', message: 'The connection to the broker is down.' },
  CMESH_BUS_NO_RESPONDERS: { status: 503, retry: 'retry', message: 'Nobody answers on {subject}.' },
  CMESH_BUS_TIMEOUT: { status: 504, retry: 'retry', message: 'No answer on {subject} within {timeoutMs} ms.' },
  CMESH_BUS_CLOSED: { status: 503, retry: 'terminal', message: 'The connection to the broker is closed.' },
  CMESH_BUS_CONNECT: { status: 503, retry: 'retry', message: 'No broker can be used at {servers}: {reason}.' },
  CMESH_BUS_VERSION: { status: 500, retry: 'terminal', message: 'The broker at {server} is nats-server {version}; at least 2.9.0 is needed. Update it, or name another one by bus.url.' },
  CMESH_BUS_DENIED: { status: 403, retry: 'terminal', message: 'The broker does not allow to {operation} {subject} on this connection.' },
  CMESH_BUS_BUSY: { status: 429, retry: 'retry', message: 'More than {limit} requests are waiting for an answer.' },
  CMESH_BUS_STREAM: { status: 500, retry: 'terminal', message: 'The JetStream stream {stream} cannot be used: {reason}.' },
  CMESH_BUS_STORE: { status: 503, retry: 'retry', message: 'The JetStream stream {stream} cannot do this now: {reason}.' },
  CMESH_MINER_ENTRY: { status: 400, retry: 'terminal', message: 'The entry {entry} of the {source} is not valid: {reason}.' },

  // --- client
  CMESH_CLIENT_ABORTED: { status: 499, retry: 'terminal', message: 'The caller gave up.' },
  CMESH_CLIENT_CLOSED: { status: 503, retry: 'terminal', message: 'This client is closed.' },
  CMESH_CLIENT_USAGE: { status: 400, retry: 'terminal', message: '{reason}' },
  CMESH_CLIENT_FILE: { status: 400, retry: 'terminal', message: '{path} cannot be used: {reason}.' },
  CMESH_CLIENT_CREDENTIALS: { status: 401, retry: 'terminal', message: 'The credentials in {path} cannot be used: {reason}.' },
  CMESH_CLIENT_NO_MESH: { status: 503, retry: 'retry', message: 'No mesh answers at {url}: {reason}. Start one with `cmesh up`, or say where it is by --data, --url or CMESH_URL.' },
  CMESH_CLIENT_REPLY: { status: 502, retry: 'terminal', message: 'The reply to {id} cannot be used: {reason}.' },
  CMESH_CLIENT_COMPILE: { status: 400, retry: 'terminal', message: 'The contract {file} does not compile: {reason}' },
  CMESH_INTERNAL: { status: 500, retry: 'bug', message: 'An unexpected failure in {component}. It is logged with the message id {id}.' },
} as const satisfies Record<string, Entry>

export type ErrorCode = keyof typeof CATALOGUE
export type ErrorDetail = Readonly<Record<string, string | number | boolean>>

/** The one error of CMesh. `status`, `retry` and the message follow from `code` and `detail`. */
export class CMeshError extends Error {
  override readonly name = 'CMeshError'
  readonly code: ErrorCode
  readonly status: number
  readonly retry: RetryClass
  readonly detail: ErrorDetail

  constructor(code: ErrorCode, detail: ErrorDetail = {}, options?: ErrorOptions) {
    const entry = CATALOGUE[code]
    super(fill(entry.message, detail), options)
    this.code = code
    this.status = entry.status
    this.retry = entry.retry
    this.detail = detail
  }

  /** What crosses the wire as an error body: whitelisted fields only, never a cause or a stack. */
  toWire(): WireError {
    const base = { code: this.code, message: this.message, retry: this.retry, detail: this.detail }
    return this.status === 401 ? { ...base, prompt: this.code === 'CMESH_IAM_TOKEN' ? 'token' : 'identity' } : base
  }

  /** Rebuilds an error from a reply's body. An unknown code from a newer node becomes `CMESH_INTERNAL` with what came as its cause. */
  static fromWire(wire: unknown): CMeshError {
    if (typeof wire === 'object' && wire !== null && 'code' in wire && typeof wire.code === 'string') {
      const detail = 'detail' in wire && typeof wire.detail === 'object' && wire.detail !== null ? scalars(wire.detail) : {}
      if (Object.hasOwn(CATALOGUE, wire.code)) return new CMeshError(wire.code as ErrorCode, detail)
    }
    return new CMeshError('CMESH_INTERNAL', { component: 'the other side', id: 'unknown' }, { cause: wire })
  }

  /** Any thrown value as a CMeshError: itself, or `CMESH_INTERNAL` with the original as cause. */
  static from(thrown: unknown, component: string, id = 'unknown'): CMeshError {
    return thrown instanceof CMeshError ? thrown : new CMeshError('CMESH_INTERNAL', { component, id }, { cause: thrown })
  }
}

/** The JSON body of every reply with a status of 400 and above (`content-type: application/cmesh-error+json`). */
export interface WireError {
  readonly code: string
  readonly message: string
  readonly retry: RetryClass
  readonly detail: ErrorDetail
  /** Only on 401: what the client is to do. `identity`: start the handshake. `token`: send the same request with the whole token. */
  readonly prompt?: string
}

function fill(template: string, detail: ErrorDetail): string {
  return template.replace(/\{(\w+)\}/g, (whole, key: string) => (Object.hasOwn(detail, key) ? String(detail[key]) : whole))
}

function scalars(value: object): ErrorDetail {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => ['string', 'number', 'boolean'].includes(typeof v)))
}
