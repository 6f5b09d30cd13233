/**
 * Entry point of the process that works on a data directory: one operation, named with its question as JSON on the command line, then it
 * ends. Answer, failure and progress come as messages on the process's channel. `client/cli/archive-process.ts` is the other side.
 */
import { inspect } from 'node:util'
import { CMeshError, type WireError } from '../../cmtp/errors.ts'
import { acceptLoss, type AcceptedLoss, type AcceptLossAsk } from './accept-loss.ts'
import { verifyAuditLogs, type AuditAsk, type AuditFacts } from './audit-log.ts'
import type { BackupHeader } from './format.ts'
import { migrate, type MigrateAsk, type Migrated } from './migrate.ts'
import { makeBackup, type BackupAsk } from './backup.ts'
import { replayReceipts, type ReplayAnswer, type ReplayAsk } from './replay.ts'
import { exportReceipts, type Exported, type ExportAsk } from './receipts.ts'
import { restoreBackup, type RestoreAsk, type Restored } from './restore.ts'
import type { OnProgress } from './source.ts'
import { verifyLog, type Verified } from './verify.ts'

interface Operations {
  readonly 'accept-loss': { readonly ask: AcceptLossAsk, readonly answer: AcceptedLoss }
  readonly audit: { readonly ask: AuditAsk, readonly answer: AuditFacts }
  readonly backup: { readonly ask: BackupAsk, readonly answer: BackupHeader }
  readonly migrate: { readonly ask: MigrateAsk, readonly answer: Migrated }
  readonly receipts: { readonly ask: ExportAsk, readonly answer: Exported }
  readonly replay: { readonly ask: ReplayAsk, readonly answer: ReplayAnswer }
  readonly restore: { readonly ask: RestoreAsk, readonly answer: Restored }
  readonly verify: { readonly ask: { readonly dir: string }, readonly answer: Verified }
}

type ArchiveMessage =
  | { readonly type: 'answer', readonly value: unknown }
  | { readonly type: 'failed', readonly error: WireError }
  | { readonly type: 'progress', readonly done: number, readonly of: number }

type Handlers = { readonly [O in keyof Operations]: (ask: Operations[O]['ask'], onProgress: OnProgress) => Promise<Operations[O]['answer']> }

const HANDLERS: Handlers = {
  'accept-loss': (ask, onProgress) => acceptLoss(ask, Date.now(), onProgress),
  audit: verifyAuditLogs,
  backup: (ask, onProgress) => makeBackup(ask, Date.now(), onProgress),
  migrate: (ask, onProgress) => migrate(ask, process.env, onProgress),
  receipts: exportReceipts,
  replay: replayReceipts,
  restore: restoreBackup,
  verify: ({ dir }, onProgress) => verifyLog(dir, onProgress),
}

type Handler = (ask: unknown, onProgress: OnProgress) => Promise<unknown>

/** Between two messages of progress, in ms. */
const PROGRESS_MS = 200

process.exitCode = await answer(process.argv[2] ?? '', process.argv[3] ?? '{}')
if (process.connected) process.disconnect()

async function answer(operation: string, ask: string): Promise<number> {
  try {
    const handler = Object.hasOwn(HANDLERS, operation) ? HANDLERS[operation as keyof Operations] as Handler : undefined
    if (handler === undefined) throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'operation', reason: `there is no ${operation}; known: ${Object.keys(HANDLERS).join(', ')}` })
    let saidMs = performance.now()
    await say({
      type: 'answer',
      value: await handler(JSON.parse(ask), (done, of) => {
        if (performance.now() - saidMs < PROGRESS_MS) return
        saidMs = performance.now()
        void say({ type: 'progress', done, of })
      }),
    })
    return 0
  } catch (thrown) {
    if (!(thrown instanceof CMeshError)) process.stderr.write(`${inspect(thrown)}\n`)
    await say({ type: 'failed', error: CMeshError.from(thrown, 'the archive').toWire() })
    return 1
  }
}

function say(message: ArchiveMessage): Promise<void> {
  return new Promise((resolve, reject) => {
    if (process.send === undefined) resolve(console.log(JSON.stringify(message)))
    else process.send(message, undefined, undefined, (error) => { if (error === null) resolve(); else reject(error) })
  })
}
