/** `cmesh consensus`: an operator's word on how a stopped node goes on: from where its log ends, with a stream that orders for several, past an entry. */
import { resolve } from 'node:path'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { signSkip } from '../../../cmtp/skip.ts'
import { usage } from '../../options.ts'
import { defaultDataDir } from '../../descriptor.ts'
import { giveSkip, readHalt, readSkip } from '../../skip-file.ts'
import { askArchive } from '../archive-process.ts'
import { examples, fields, identities, printResult, withJson, type JsonOption } from '../command.ts'
import type { Terminal } from '../terminal.ts'

interface StoppedNodeOptions extends JsonOption {
  readonly data?: string
  readonly yes?: boolean
}

interface AcceptOptions extends StoppedNodeOptions {
  readonly alone?: boolean
}

const DATA = '--data <dir>'
const DATA_SAYS = 'data directory of the node (default: CMESH_DATA_DIR, else ~/.local/share/cmesh)'

export function consensus(program: Command, terminal: Terminal): void {
  const group = program.command('consensus').description('decide how a node goes on: what orders its writes, and what it has lost')
  acceptLoss(group, terminal)
  migrate(group, terminal)
  skip(group, terminal)
}

function acceptLoss(group: Command, terminal: Terminal): void {
  withJson(group.command('accept-loss').description('let a stopped node go on from where its log ends, in a new epoch'))
    .option(DATA, DATA_SAYS)
    .option('--alone', 'give up the other members of the mesh and their stream as well, where the log lists any')
    .option('--yes', 'give up what the node had acknowledged beyond its log')
    .addHelpText('after', examples(
      ['cmesh consensus accept-loss --data ./mesh --yes', 'only where no backup reaches further'],
      ['cmesh consensus accept-loss --data ./mesh --alone --yes', 'only where no other member is left'],
    ))
    .addHelpText('after', '\nOne of several members is rebuilt from the others instead: move state/ and claim.json in its directory aside, and start it.')
    .action(async (options: AcceptOptions) => {
      const dir = resolve(options.data ?? defaultDataDir(terminal.env))
      const alone = options.alone === true
      const question = `What the node in ${dir} has acknowledged beyond its log is given up for good${alone ? ', and so are the other members' : ''}. Go on?`
      if (options.yes !== true && !(terminal.answers && await terminal.confirm(question))) {
        throw usage('Nothing was changed. It gives up what the node had acknowledged beyond its log; --yes says that this is meant.')
      }
      const done = await askArchive(terminal, 'accept-loss', { dir, alone }, 'verifying the log')
      printResult(terminal, options, { directory: dir, ...done }, () => fields(terminal, [
        ['goes on', `behind block ${done.seq}, in epoch ${done.newEpoch}`],
        ['claimed', done.claimed === null ? 'nothing' : `block ${done.claimed.seq} of epoch ${done.claimed.epoch}, chain ${done.claimed.chain}`],
        ['given up', `${done.lost} blocks${done.members > 1 ? `, and the other members (${done.members - 1})` : ''}`],
        ['recorded', `${dir}/losses.jsonl`],
      ]))
      if (options.json !== true) terminal.note(`Next: cmesh up --data ${dir}. Under consensus.provider jetstream, delete the stream first: nats stream rm CMESH_ORDER`)
    })
}

interface MigrateOptions extends StoppedNodeOptions {
  readonly natsUrl?: string
  readonly set: readonly (readonly [string, string])[]
  readonly dryRun?: boolean
}

function migrate(group: Command, terminal: Terminal): void {
  withJson(group.command('migrate').description('let a stream order the writes of a stopped node, with all its data, so that others can join'))
    .option(DATA, DATA_SAYS)
    .option('--nats-url <url>', 'the NATS server or cluster where the stream is to be (default: the node\'s own)')
    .option('--set <key=value>', 'any setting of docs/configuration.md, as the node will have it; may be repeated', keyValue, [])
    .option('--dry-run', 'check everything and say what would be done')
    .option('--yes', 'go on without being asked')
    .addHelpText('after', examples(
      ['cmesh consensus migrate --data ./mesh --nats-url nats://10.0.0.1:4222 --set consensus.replicas=3 --set bus.accounts=./node.json --dry-run', 'what it would do'],
      ['cmesh consensus migrate --data ./mesh --yes', 'on the broker that the node starts itself'],
    ))
    .addHelpText('after', '\nThe log is not changed. docs/consensus.md says what to do next.')
    .action(async (options: MigrateOptions) => {
      const dir = resolve(options.data ?? defaultDataDir(terminal.env))
      const dryRun = options.dryRun === true
      const question = `From the end of its log on, a stream orders the writes of the node in ${dir}. Go on?`
      if (!dryRun && options.yes !== true && !(terminal.answers && await terminal.confirm(question))) {
        throw usage('Nothing was changed. --yes says that a stream is to order the writes of this node from now on; --dry-run looks first.')
      }
      if (options.natsUrl !== undefined && options.set.some(([key]) => key === 'bus.url')) throw usage('--nats-url and --set bus.url say the same: give one of them.')
      const settings = { ...Object.fromEntries(options.set), ...(options.natsUrl !== undefined && { 'bus.url': options.natsUrl }) }
      const done = await askArchive(terminal, 'migrate', { dir, settings, dryRun }, 'verifying the log')
      printResult(terminal, options, { directory: dir, dryRun, ...done }, () => fields(terminal, [
        ['log', `${done.blocks} blocks of ${done.mesh}, verified`],
        ['goes on', `behind sequence ${done.base}, in epoch ${done.newEpoch}`],
        ['stream', `${done.stream}, ${dryRun && done.what !== 'there' ? 'not made yet' : STREAM_IS[done.what]}`],
      ]))
      if (options.json !== true) terminal.note(dryRun ? 'Nothing was changed.' : `Next: cmesh up --data ${dir} --set consensus.provider=jetstream, with the same settings`)
    })
}

const STREAM_IS = Object.freeze({ there: 'made by an earlier try', make: 'made', replace: 'made anew: the one of an earlier try was never used' })

function keyValue(pair: string, before: readonly (readonly [string, string])[]): readonly (readonly [string, string])[] {
  const at = pair.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('It must be KEY=VALUE.')
  return [...before, [pair.slice(0, at), pair.slice(at + 1)]]
}

interface SkipOptions extends StoppedNodeOptions {
  readonly reason?: string
  readonly from?: string
  readonly identity: string
}

function skip(group: Command, terminal: Terminal): void {
  withJson(group.command('skip').description('let a node pass the entry at which it halted; nothing comes of that entry'))
    .option(DATA, DATA_SAYS)
    .option('--reason <text>', 'why, for the log; 1 to 300 characters')
    .addOption(new Option('--from <file>', 'take a skip that was signed before, for another node: the file that is printed here').conflicts(['reason', 'identity', 'yes']))
    .option('--identity <name>', 'which of your identities operates the mesh', 'default')
    .option('--yes', 'sign without being asked')
    .addHelpText('after', examples(
      ['cmesh consensus skip --data ./mesh --reason "halts every node"', 'signs it, for the node of this directory'],
      ['cmesh consensus skip --data ./mesh --from ./0-17.json', 'gives it to another node of the mesh'],
    ))
    .addHelpText('after', '\nOnly where every node stops at the entry, and no version of CMesh applies it. docs/consensus.md says more.')
    .action(async (options: SkipOptions) => {
      const dir = resolve(options.data ?? defaultDataDir(terminal.env))
      const halt = await readHalt(dir)
      if (options.from === undefined && options.reason === undefined) throw usage('Nothing was changed. --reason says why the entry is passed, or --from names a skip that was signed before.')
      const question = `What stands in entry ${halt.seq} of epoch ${halt.epoch} is given up for good, at every node that passes it. Go on?`
      if (options.from === undefined && options.yes !== true && !(terminal.answers && await terminal.confirm(question))) {
        throw usage('Nothing was changed. --yes says that the entry is to be passed.')
      }
      const given = options.from === undefined
        ? signSkip(halt, options.reason ?? '', await identities(terminal).loadOrCreateIdentity(options.identity))
        : await readSkip(resolve(options.from))
      const file = await giveSkip(dir, given)
      printResult(terminal, options, { directory: dir, file, ...given }, () => fields(terminal, [
        ['passes', `entry ${given.seq} of epoch ${given.epoch}, SHA-256 ${given.hash}`], ['halted by', terminal.foreign(`${halt.reason} (${halt.code})`)],
        ['reason', terminal.foreign(given.reason)], ['signed by', given.operator], ['written', file],
      ]))
      if (options.json !== true) terminal.note(`Next: give the other nodes the same file by --from, then start them all: cmesh up --data ${dir} …`)
    })
}
