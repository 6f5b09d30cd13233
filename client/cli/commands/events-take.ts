/**
 * `cmesh events take`: a member of a group, for the shell. Each event that it takes is printed, or given to a command first; what became of one
 * that the command failed for is said on stderr.
 */
import { spawn } from 'node:child_process'
import type { Command } from 'commander'
import { CMeshError } from '../../../cmtp/errors.ts'
import type { FailedEvent, GroupMember } from '../../group.ts'
import type { ChannelEvent } from '../../subscription.ts'
import { examples, integerFrom, withClient, withMesh, type MeshOptions } from '../command.ts'
import { printEvent } from '../event-lines.ts'
import { EXIT, Reported } from '../exit-codes.ts'
import type { Terminal } from '../terminal.ts'

interface TakeOptions extends MeshOptions {
  readonly count?: number
  readonly from?: 'new' | 'first' | number
  readonly ackWait?: number
  readonly attempts?: number
  readonly exec?: string
}

export function take(group: Command, terminal: Terminal): void {
  withMesh(group.command('take').description('take events as a member of a group, until Ctrl-C'), 'print one JSON document per event')
    .argument('<channel>')
    .argument('<group>')
    .option('--count <n>', 'stop once so many were taken, whether they were done or failed; exit code 1 when one failed', integerFrom(1, 1_000_000_000))
    .option('--from <where>', 'where a new group begins: new, first or a sequence (default: new)', beginning)
    .option('--ack-wait <ms>', 'how long a member of a new group may take (default: 30000)', integerFrom(100, 3_600_000))
    .option('--attempts <n>', 'how often a new group tries an event (default: 5)', integerFrom(1, 100))
    .option('--exec <command>', 'run a shell command per event, its data on standard input; a failure gives the event back')
    .addHelpText('after', examples(
      ['cmesh events take orders packers', 'share the channel with other packers'],
      ['cmesh events take orders packers --from first --exec ./pack.sh', 'a command for each event'],
    ))
    .addHelpText('after', '\nWhat the command prints goes to stdout, with --json to stderr. An event that it failed for comes again, or is a dead letter: `cmesh dlq`.')
    .action((channel: string, name: string, options: TakeOptions) => withClient(terminal, options, async (client) => {
      const count = options.count ?? Infinity
      let [taken, failed] = [0, 0]
      let enough = (): void => undefined
      const done = new Promise<void>((resolve) => { enough = resolve })
      terminal.interrupted.addEventListener('abort', enough, { once: true })
      const member = await client.group(channel, name, async (event) => {
        taken++
        try {
          if (options.exec !== undefined) await execute(options.exec, event, terminal, options.json === true)
          printEvent(terminal, options, event)
        } catch (error) {
          // Counted here: the mesh may not have been told.
          failed++
          throw error
        } finally {
          if (taken >= count) enough()
        }
      }, {
        from: options.from, ackWaitMs: options.ackWait, attempts: options.attempts, signal: terminal.interrupted,
        onFailed: (what) => { terminal.note(failureLine(name, what)) },
      })
      for (const line of termsLines(member, options)) terminal.note(line)
      if (terminal.messagesAreSeen) terminal.note(terminal.styleNote('dim', `taking from ${channel} for ${name}; Ctrl-C ends it`))
      await done
      await member.close()
      if (taken < count) throw new CMeshError('CMESH_CLIENT_ABORTED')
      if (failed > 0) throw new Reported(EXIT.refused)
    }))
}

function beginning(text: string): 'new' | 'first' | number {
  return text === 'new' || text === 'first' ? text : integerFrom(1, Number.MAX_SAFE_INTEGER)(text)
}

function failureLine(group: string, failed: FailedEvent): string {
  const { event: { channel, seq, attempt }, error: { message } } = failed
  if ('retryMs' in failed) return `notice: event #${seq} of ${channel} failed: ${message}; it comes again in ${failed.retryMs} ms`
  const told = `warning: event #${seq} of ${channel} failed for good, tried ${attempt} ${attempt === 1 ? 'time' : 'times'}: ${message}`
  if (failed.dead === null) return `${told}; its channel keeps it no more`
  return `${told}; it is the dead letter ${failed.dead}: \`cmesh dlq show\` shows it, \`cmesh dlq replay\` gives it to ${group} once more`
}

/** What was asked for and does not hold, since the group was there before. */
function termsLines({ channel, group, terms }: GroupMember, { from, ackWait, attempts }: TakeOptions): string[] {
  const asked = [['--from', from, terms.from], ['--ack-wait', ackWait, terms.ackWaitMs], ['--attempts', attempts, terms.attempts]] as const
  const other = asked.filter(([, wanted, held]) => wanted !== undefined && wanted !== held).map(([option, , held]) => `${option} ${held}`)
  return other.length === 0 ? [] : [`notice: ${channel} had the group ${group} before, and it stays as it was made: ${other.join(', ')}`]
}

/** Rejects where the command fails: the event goes back to its group then. Its results are ours, but where ours are documents. */
function execute(command: string, event: ChannelEvent, terminal: Terminal, quiet: boolean): Promise<void> {
  const bytes = typeof event.data === 'string' ? Buffer.from(event.data) : Buffer.from(event.data.base64, 'base64')
  return new Promise((resolve, reject) => {
    const child = spawn(command, { shell: true, stdio: ['pipe', 'pipe', 'inherit'], env: { ...terminal.env, CMESH_EVENT_SEQ: String(event.seq) } })
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (code === 0) resolve()
      else reject(new Error(`the command ended with ${signal ?? code ?? 'nothing'}`))
    })
    if (quiet) child.stdout.setEncoding('utf8').on('data', (text: string) => { terminal.scribble(text) })
    else child.stdout.on('data', (chunk: Buffer) => { terminal.relay(chunk) })
    // A command that does not read its input has failed by its own status, or not at all.
    child.stdin.once('error', () => undefined)
    child.stdin.end(bytes)
  })
}
