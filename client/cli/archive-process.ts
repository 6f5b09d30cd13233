/** What works on a data directory, in a process of its own: makes a backup of it, makes one of a backup, verifies its log, accepts its end, gives it a stream, replays receipts on it. */
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runOperation } from './operation-process.ts'
import { withProgress } from './progress.ts'
import type { ReplayAnswer, ReplayAsk } from './replay-report.ts'
import type { Terminal } from './terminal.ts'

/** Where a log stands and whose it is; hashes and keys in hex. */
export interface LogFacts {
  readonly mesh: string
  readonly blocks: number
  readonly epoch: number
  readonly seq: number
  readonly timeMs: number
  readonly chain: string
  readonly root: string
}

/** What the mesh has seen of a node's audit log, as roots on the audit channel; batches are −1 without any. */
export interface AuditSeen {
  readonly roots: number
  readonly from: number
  readonly to: number
  readonly unsigned: number
  readonly otherLogs: readonly { readonly log: string, readonly batch: number }[]
}

/** The operations, each with what it is asked and what it answers. */
interface ArchiveOperations {
  readonly audit: {
    readonly ask: {
      readonly dirs: readonly string[]
      readonly mesh?: string
      readonly certificate?: string
      readonly seen?: { readonly file: string, readonly from: string }
    }
    readonly answer: {
      readonly mesh: string
      readonly node: string
      readonly log: string
      readonly batches: number
      readonly requests: number
      readonly timeUs: number
      readonly head: string
      readonly certified: boolean
      readonly copies: readonly number[]
      readonly seen: AuditSeen | null
    }
  }
  readonly receipts: {
    readonly ask: { readonly dir: string, readonly out: string, readonly fromMs: number, readonly toMs: number, readonly certificate?: string }
    readonly answer: {
      readonly mesh: string
      readonly node: string
      readonly log: string
      readonly requests: number
      readonly written: number
      readonly there: number
      readonly pruned: number
      readonly firstMs: number
      readonly lastMs: number
    }
  }
  readonly backup: {
    readonly ask: { readonly dir: string, readonly file: string, readonly keys: boolean, readonly audit: boolean }
    readonly answer: LogFacts & {
      readonly logKey: string
      readonly keys: boolean
      readonly audits?: number
      readonly createdMs: number
      readonly version: string
    }
  }
  readonly restore: {
    readonly ask: { readonly file: string, readonly dir: string, readonly verify: boolean }
    readonly answer: LogFacts & { readonly transactions: number, readonly keys: boolean, readonly audits: number, readonly verified: boolean }
  }
  readonly 'accept-loss': {
    readonly ask: { readonly dir: string, readonly alone: boolean }
    readonly answer: LogFacts & {
      readonly members: number
      readonly newEpoch: number
      readonly claimed: { readonly epoch: number, readonly seq: number, readonly chain: string } | null
      readonly lost: number
    }
  }
  readonly migrate: {
    readonly ask: { readonly dir: string, readonly settings: Readonly<Record<string, string>>, readonly dryRun: boolean }
    readonly answer: LogFacts & { readonly stream: string, readonly newEpoch: number, readonly base: number, readonly what: 'there' | 'make' | 'replace' }
  }
  readonly replay: { readonly ask: ReplayAsk, readonly answer: ReplayAnswer }
  readonly verify: { readonly ask: { readonly dir: string }, readonly answer: LogFacts & { readonly transactions: number, readonly logKey: string } }
}

/** Runs one operation under a progress line that starts with `doing`. Rejects as `runOperation` does. */
export async function askArchive<O extends keyof ArchiveOperations>(
  terminal: Terminal, operation: O, ask: ArchiveOperations[O]['ask'], doing: string,
): Promise<ArchiveOperations[O]['answer']> {
  // The entry point beside this file: dist/node/archive when built, node/archive when a test runs the sources.
  const entry = fileURLToPath(new URL(`../../node/archive/main${extname(fileURLToPath(import.meta.url))}`, import.meta.url))
  return await withProgress(terminal, doing, (progress) => runOperation(terminal, {
    what: 'the archive', entry, operation, ask,
    onProgress: (done, of) => progress.update(`${doing}: ${of === 0 ? 100 : Math.floor(100 * done / of)} %`),
  })) as ArchiveOperations[O]['answer']
}
