/**
 * The configuration of a managed nats-server, as text. It owns the server's bounds; the accounts and what each may do are
 * `cmtp/identity/nats-accounts.ts`'s. It writes no file. What stands here of the accounts is public; the password of a cluster's routes is
 * not, and the file is for one user alone.
 *
 * There is no `http` in it unless it is asked for: that port has no login, and tells any process of the machine each session's id, inbox and login.
 */
import { serverConfig, type BrokerAccounts } from '../../cmtp/identity/nats-accounts.ts'

/** A server's place among others that replicate the same streams. */
export interface BrokerRoutes {
  readonly cluster: string
  /** Where it listens for the others: `host:port`. */
  readonly listen: string
  /** Where each reaches the others, all of them, this one too. */
  readonly servers: readonly string[]
  /**
   * Where the others reach it, as their `servers` say. A server that hears of one by another address dials it once more, and of the two routes some versions
   * keep the one that they do not dial again once it is lost. Default: what it listens on.
   */
  readonly address?: string
  /** Whether clients are told of the other servers. Default true; false where they do not reach them by the addresses that those know of themselves. */
  readonly advertise?: boolean
  /** What they know each other by: letters, digits, `_` and `-`. */
  readonly password: string
}

export interface BrokerConfig {
  /** Shown in the broker's logs and to its clients. */
  readonly serverName: string
  /** Address that clients connect to. Default 127.0.0.1. */
  readonly host?: string
  /** Port for clients; -1 lets the server choose. */
  readonly port: number
  /** Directory for the server's ports file, process id, log, streams and stored accounts. */
  readonly dir: string
  readonly accounts: BrokerAccounts
  /** Which optional fields the server understands. */
  readonly version: readonly [number, number, number]
  /** What the streams together may keep on disk, in bytes. Default `BROKER_LIMITS.fileStoreBytes`. */
  readonly maxFileStoreBytes?: number
  /** Default: it is alone. */
  readonly routes?: BrokerRoutes
  /** Address for health checks where nobody else reaches it, as inside a container. Default: none, for it knows no login. */
  readonly monitor?: string
}

/** Names inside the broker's directory. */
export const BROKER_FILES = Object.freeze({
  config: 'nats.conf', log: 'nats.log', pid: 'nats.pid', port: 'port', resolver: 'jwt',
})

/** What the broker accepts. Each is a bound on somebody else's behaviour, so each has its reason. */
export const BROKER_LIMITS = Object.freeze({
  /** Largest message in bytes. Must exceed `LIMITS.frameBytes`: JetStream adds headers to a stored frame. */
  payloadBytes: 2 * 1_024 * 1_024,
  /** Connections at once: ten thousand sessions and what newcomers may take. The server raises its own limit of open files. */
  connections: 16_384,
  /** Bytes that may wait for one slow reader before it is cut off. */
  pendingBytes: 64 * 1_024 * 1_024,
  /** How long one write to a reader may block, in seconds. */
  writeDeadlineS: 10,
  /**
   * After so long a silence a connection is asked whether it is there, in seconds, and after so many questions without an answer it is closed: 10 to 15 s.
   * Nothing says of a machine that lost its power or its network that it is gone, and until it is the server hands it requests. Nodes and clients of ours
   * ask by themselves before that, so none that lives is asked.
   */
  pingS: 5,
  pings: 2,
  /** Size at which the log is put aside, in bytes. */
  logBytes: 16 * 1_024 * 1_024,
  /** Logs put aside that are kept. */
  logFiles: 3,
  /** Memory for JetStream streams kept in memory, in bytes; those of the services are on disk. */
  memoryStoreBytes: 256 * 1_024 * 1_024,
  /**
   * What all streams together may keep on disk, in bytes: more than their owners ever ask for, since each bounds its own. Left to itself the server takes three
   * quarters of what is free when it starts, and on a disk that has become fuller reads no stream back whose bound is above that.
   */
  fileStoreBytes: 4 * 1_024 ** 4,
})

/** The text of `nats.conf`. Needs nats-server 2.9.0 or newer. */
export function brokerConfig(config: BrokerConfig): string {
  const path = (name: string): string => quoted(`${config.dir}/${name}`)
  const rotates = config.version[0] > 2 || config.version[1] >= 10
  return `# Written by CMesh at every start; changes are lost.
server_name: ${quoted(config.serverName)}
host: ${quoted(config.host ?? '127.0.0.1')}
port: ${config.port}
${config.monitor === undefined ? '' : `http: ${quoted(config.monitor)}\n`}ports_file_dir: ${quoted(config.dir)}
pid_file: ${path(BROKER_FILES.pid)}
log_file: ${path(BROKER_FILES.log)}
logfile_size_limit: ${BROKER_LIMITS.logBytes}
${rotates ? `logfile_max_num: ${BROKER_LIMITS.logFiles}\n` : ''}logtime: true
max_payload: ${BROKER_LIMITS.payloadBytes}
max_connections: ${BROKER_LIMITS.connections}
max_pending: ${BROKER_LIMITS.pendingBytes}
write_deadline: "${BROKER_LIMITS.writeDeadlineS}s"
ping_interval: "${BROKER_LIMITS.pingS}s"
ping_max: ${BROKER_LIMITS.pings}
jetstream {
  store_dir: ${quoted(config.dir)}
  max_memory_store: ${BROKER_LIMITS.memoryStoreBytes}
  max_file_store: ${config.maxFileStoreBytes ?? BROKER_LIMITS.fileStoreBytes}
}
${config.routes === undefined ? '' : clusterBlock(config.routes)}${serverConfig(config.accounts, `${config.dir}/${BROKER_FILES.resolver}`)}`
}

function clusterBlock({ cluster, listen, servers, address, password, advertise = true }: BrokerRoutes): string {
  return `cluster {
  name: ${quoted(cluster)}
  listen: ${quoted(listen)}
${address === undefined ? '' : `  advertise: ${quoted(address)}\n`}${advertise ? '' : '  no_advertise: true\n'}  authorization { user: "route", password: ${quoted(password)}, timeout: 2 }
  routes: [ ${servers.map(server => quoted(`nats-route://route:${password}@${server}`)).join(', ')} ]
}
`
}

/** A JSON string is a string of the server's configuration language too. */
function quoted(text: string): string {
  return JSON.stringify(text)
}
