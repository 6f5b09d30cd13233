/**
 * Every setting of a node: its meaning, unit, range and default, in one table. `docs/configuration.md` is held equal to it
 * by a test. A setting `a.bCd` is the environment variable `CMESH_A_B_CD`.
 */
import { decodeDid } from '../cmtp/identity/did.ts'
import { IRMA_CHECKS, OTLP_CHECKS } from '../providers/registry.ts'
import { parseGrants } from '../services/iam/grants.ts'
import { parseIssuers } from '../services/iam/issuers.ts'

interface TextSetting {
  readonly kind: 'text'
  readonly default: string | undefined
  /** Throws for a text that means nothing. Default: every text will do. */
  readonly check?: (text: string) => void
  readonly doc: string
}

interface NumberSetting {
  readonly kind: 'number'
  readonly default: number | undefined
  readonly min: number
  readonly max: number
  readonly unit: string
  readonly doc: string
}

interface ChoiceSetting {
  readonly kind: 'choice'
  readonly default: string
  readonly choices: readonly string[]
  readonly doc: string
}

interface FlagSetting {
  readonly kind: 'flag'
  readonly default: boolean
  readonly doc: string
}

export type Setting = TextSetting | NumberSetting | ChoiceSetting | FlagSetting

const GIB = 1024 ** 3

export const SETTINGS = {
  'data.dir': { kind: 'text', default: undefined, doc: 'Where the node keeps its identity, log and broker. Default: `$XDG_DATA_HOME/cmesh`, else `~/.local/share/cmesh`.' },
  'operator': { kind: 'text', default: undefined, check: decodeDid, doc: 'DID that holds every right; recorded at genesis, ignored afterwards with a warning where it is another. Default: the node\'s own DID.' },
  'mesh.certificate': { kind: 'text', default: undefined, doc: 'The certificate by which this node speaks for a mesh whose key is another\'s: path of the file that holds it. Default: none, and the node\'s key is the mesh\'s.' },
  'bus.url': { kind: 'text', default: undefined, doc: 'An existing NATS server or cluster: URLs separated by commas. Default: a nats-server of the node\'s own.' },
  'bus.nkeySeed': { kind: 'text', default: undefined, doc: 'Seed of the nkey to log in with at `bus.url`. A secret: give it by the environment or a file of mode 0600.' },
  'bus.accounts': { kind: 'text', default: undefined, doc: 'The node\'s accounts at `bus.url`, made by `cmesh operator export`: path of a `node.json` of mode 0600. Default: none, and the broker enforces nothing.' },
  'bus.readyMs': { kind: 'number', default: 60_000, min: 1_000, max: 3_600_000, unit: 'ms', doc: 'How long a node that starts waits where its broker is away, or JetStream has no leader.' },
  'bus.port': { kind: 'number', default: undefined, min: 1, max: 65_535, unit: 'port', doc: 'Loopback port of the managed nats-server. Default: the one used last, else a free one.' },
  'http.port': { kind: 'number', default: 0, min: 0, max: 65_535, unit: 'port', doc: 'Loopback port of `/healthz` and `/metrics`; 0 takes a free one.' },
  'http.host': { kind: 'text', default: '127.0.0.1', doc: 'Address that `/healthz` and `/metrics` listen on.' },
  'iam.provider': { kind: 'text', default: 'did', doc: 'How callers prove who they are.' },
  'iam.grants': { kind: 'text', default: undefined, check: parseGrants, doc: 'What some may do beyond the newcomer\'s set: `DID=permission|permission`, one entry a DID, separated by `;`; proposed to the log at boot where missing. Default: nobody anything.' },
  'iam.mockEnabled': { kind: 'flag', default: false, doc: 'Lets the `mock` identity provider run, which proves nothing. For tests.' },
  'iam.sessionTtlMs': { kind: 'number', default: 300_000, min: 1_000, max: 300_000, unit: 'ms', doc: 'Life of a session token.' },
  'iam.connectionTtlMs': { kind: 'number', default: 3_600_000, min: 2_000, max: 86_400_000, unit: 'ms', doc: 'Life of the login of a session\'s own connection; it is renewed with the session.' },
  'iam.issuers': { kind: 'text', default: undefined, check: parseIssuers, doc: 'DIDs whose credentials count, separated by `|`. Default: none, and presentations are refused.' },
  'iam.irma.url': { kind: 'text', default: undefined, check: IRMA_CHECKS.url, doc: 'Base URL of the IRMA server that the `irma` provider asks: `https`, or `http` to this machine.' },
  'iam.irma.requestor': { kind: 'text', default: undefined, check: IRMA_CHECKS.requestor, doc: 'Name of this mesh as a requestor at the IRMA server.' },
  'iam.irma.key': { kind: 'text', default: undefined, check: IRMA_CHECKS.key, doc: 'Key that requests to the IRMA server are signed with: an HS256 secret of 32 bytes or more in base64, or an RS256 key of 2,048 bits or more in PEM. A secret: give it by the environment or a file of mode 0600.' },
  'iam.irma.serverKey': { kind: 'text', default: undefined, check: IRMA_CHECKS.serverKey, doc: 'Public key of the IRMA server in PEM, RSA of 2,048 bits or more: only results signed by it count.' },
  'iam.irma.disclose': { kind: 'text', default: undefined, check: IRMA_CHECKS.disclose, doc: 'What is to be disclosed, as a condiscon in JSON.' },
  'iam.irma.timeoutMs': { kind: 'number', default: 120_000, min: 1_000, max: 240_000, unit: 'ms', doc: 'How long a person may take to disclose.' },
  'state.provider': { kind: 'text', default: 'hypercore', doc: 'Where state is kept.' },
  'state.durability': { kind: 'choice', default: 'auto', choices: ['auto', 'os', 'disk', 'quorum-os', 'quorum-disk'], doc: 'What an acknowledged write survives: kill −9 of every process (`os`), a power cut (`disk`), and with `quorum-` the loss of a minority of the nodes. `auto` is `os` under `mock` consensus and `quorum-os` under `jetstream`.' },
  'state.viewCache': { kind: 'number', default: 16_384, min: 0, max: 1_048_576, unit: 'views', doc: 'Results of views kept at least; 0 turns the cache off.' },
  'consensus.provider': { kind: 'text', default: 'mock', doc: 'Who orders writes.' },
  'consensus.members': { kind: 'number', default: 3, min: 1, max: 9, unit: 'members', doc: 'Simulated members of the `mock` provider.' },
  'consensus.replicas': { kind: 'number', default: 1, min: 1, max: 5, unit: 'servers', doc: 'Servers of the NATS cluster that keep the stream of the `jetstream` provider; at most as many as there are.' },
  'consensus.maxBytes': { kind: 'number', default: GIB / 2, min: 8_388_608, max: 1_024 * GIB, unit: 'bytes', doc: 'Most bytes that the stream of the `jetstream` provider keeps; past it writes are refused until what the log holds is trimmed.' },
  'consensus.reads': { kind: 'choice', default: 'none', choices: ['none', 'sample', 'all'], doc: 'Which reads other members check before or behind their reply; needs the `jetstream` provider.' },
  'consensus.sample': { kind: 'number', default: 100, min: 1, max: 1_000_000, unit: 'reads', doc: 'Under `consensus.reads` `sample`, one read in so many is checked.' },
  'events.provider': { kind: 'text', default: 'jetstream', doc: 'Where events are kept.' },
  'events.maxBytes': { kind: 'number', default: GIB / 2, min: 1_048_576, max: 1_024 * GIB, unit: 'bytes', doc: 'Most bytes of events kept; past it the oldest go.' },
  'events.replicas': { kind: 'number', default: 1, min: 1, max: 5, unit: 'servers', doc: 'Servers of the NATS cluster that keep the events, and the requests to be mined; at most as many as there are.' },
  'contracts.provider': { kind: 'text', default: 'wasm', doc: 'What runs contracts.' },
  'contracts.callLimitMs': { kind: 'number', default: 2_000, min: 100, max: 60_000, unit: 'ms', doc: 'A contract that holds the node longer than this halts it.' },
  'contracts.viewGas': { kind: 'number', default: 2_000_000, min: 10_000, max: 1_000_000_000_000, unit: 'gas', doc: 'Most gas that one view may use on this node.' },
  'contracts.transactionGas': { kind: 'number', default: 20_000_000, min: 10_000, max: 1_000_000_000_000, unit: 'gas', doc: 'Most gas that one transaction may use; recorded at genesis, ignored afterwards.' },
  'router.perSession': { kind: 'number', default: 1_024, min: 1, max: 65_536, unit: 'messages', doc: 'Messages of one session under way at once, with what it carries for others.' },
  'router.inAll': { kind: 'number', default: 16_384, min: 1, max: 1_048_576, unit: 'messages', doc: 'Messages under way at once in all.' },
  'router.drainMs': { kind: 'number', default: 10_000, min: 0, max: 300_000, unit: 'ms', doc: 'How long a drain waits for what is in flight.' },
  'receipts.provider': { kind: 'text', default: 'hypercore', doc: 'Where the audit log is kept; `mock` keeps it in memory.' },
  'receipts.maxBytes': { kind: 'number', default: GIB, min: 1_048_576, max: 1_024 * GIB, unit: 'bytes', doc: 'Most bytes of layers kept beside the audit log; past it the oldest go, and their receipts can no more be fetched.' },
  'receipts.maxAgeMs': { kind: 'number', default: 604_800_000, min: 60_000, max: 315_360_000_000, unit: 'ms', doc: 'How long layers are kept beside the audit log.' },
  'traces.endpoint': { kind: 'text', default: undefined, check: OTLP_CHECKS.endpoint, doc: 'Where the layers of requests go as OpenTelemetry spans: the whole URL of an OTLP/HTTP receiver for traces, such as `http://127.0.0.1:4318/v1/traces`. Default: nowhere.' },
  'traces.headers': { kind: 'text', default: undefined, check: OTLP_CHECKS.headers, doc: 'HTTP headers for that receiver, `name=value,name=value`, values percent-encoded. A secret where one of them is: give it by the environment or a file of mode 0600. Default: none.' },
  'traces.sample': { kind: 'number', default: 1, min: 0, max: 1_000_000, unit: 'requests', doc: 'One request in so many is traced among those whose caller sends no `traceparent`; 0 for none of them.' },
  'miner.stream': { kind: 'flag', default: true, doc: 'Mines the requests on `cmesh.v1.mine.<sid>`.' },
  'miner.logFile': { kind: 'text', default: undefined, doc: 'A log file of `<id>;<FQMN>` lines to mine. Default: none.' },
  'log.level': { kind: 'choice', default: 'info', choices: ['silent', 'error', 'warn', 'info', 'debug'], doc: 'Least level that is logged, to standard error as JSON lines.' },
} as const satisfies Record<string, Setting>

export type SettingKey = keyof typeof SETTINGS

type ValueOf<S extends Setting> =
  | (S extends NumberSetting ? number : S extends FlagSetting ? boolean : S extends ChoiceSetting ? S['choices'][number] : string)
  | (S['default'] extends undefined ? undefined : never)

/** Resolved settings: frozen, every key present; the data directory is absolute. */
export type Config = { readonly [K in Exclude<SettingKey, 'data.dir'>]: ValueOf<(typeof SETTINGS)[K]> } & { readonly 'data.dir': string }
