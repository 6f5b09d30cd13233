/**
 * `cmesh identity`: the identities of the person at this machine. None of these talks to a mesh but `show --mesh` and `rotate`, and none prints
 * a secret but `export --yes`.
 */
import type { Command } from 'commander'
import type { IdentityInfo } from '../../identity-store.ts'
import { usage } from '../../options.ts'
import { rotationOf } from '../../rotation.ts'
import type { RotationState } from '../../rotation-store.ts'
import { examples, fields, identities, MESH_OPTIONS, printResult, refuseIdle, withClient, withJson, withLocation, type JsonOption, type MeshOptions } from '../command.ts'
import { readInput } from '../input.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'
import { identityRotation, rotations } from './identity-rotation.ts'

/** Largest file of words or of a seed, in bytes. */
const SECRET_BYTES = 4_096

interface ExportOptions extends JsonOption {
  readonly words?: boolean
  readonly seed?: boolean
  readonly yes?: boolean
}

export function identity(program: Command, terminal: Terminal): void {
  const group = program.command('identity').description('make, show, derive and move identities')
    .addHelpText('after', examples(
      ['cmesh identity new work', 'a root of its own: 24 words stand for it'],
      ['cmesh identity derive work --context shop --as work-shop', 'an identity that nobody can link to it'],
      ['cmesh identity export work --words --yes', 'its words, to write down'],
    ))

  withJson(group.command('new').description('make a root identity').argument('[name]', 'under which name', 'default'))
    .addHelpText('after', examples(['cmesh identity new', 'your identity default'], ['cmesh identity new work', 'another root']))
    .action(async (name: string, options: JsonOption) => {
      const made = await identities(terminal).create(name)
      show(terminal, options, made)
      if (options.json === true) return
      terminal.note(`Write its 24 words down: cmesh identity export ${name} --words --yes`)
      terminal.note(`Keep those of its next root, which takes its place when it is stolen or lost, apart: cmesh identity next ${name} --out FILE`)
    })

  withLocation(withJson(group.command('show').description('show an identity').argument('[name]', 'which', 'default')))
    .option('--mesh', 'ask the mesh as well whether it knows what the identity commits to')
    .addHelpText('after', examples(
      ['cmesh identity show work', 'its DID and where it came from'],
      ['cmesh identity show work --mesh', 'and whether the mesh can rotate it'],
    ))
    .action(async (name: string, options: MeshOptions & { readonly mesh?: boolean }, command: Command) => {
      if (options.mesh !== true) refuseIdle(command, MESH_OPTIONS, 'no mesh is asked without --mesh.')
      const found = await identities(terminal).describe(name)
      if (found === undefined) throw usage(`There is no identity ${name}; \`cmesh identity new ${name}\` makes it.`)
      const state = await rotations(terminal).state(name)
      const next = options.mesh !== true ? undefined : await withClient(terminal, { ...options, identity: name }, async client => (
        (await rotationOf(client, undefined, { signal: terminal.interrupted })).next
      ))
      const known = next === undefined ? undefined : next === null ? 'none' : next === state.commitment ? 'same' : 'another'
      show(terminal, options, found, { ...state, known })
    })

  identityRotation(group, terminal)

  withJson(group.command('list').description('list your identities'))
    .addHelpText('after', examples(['cmesh identity list', 'all of this machine']))
    .action(async (options: JsonOption) => {
      const all = await identities(terminal).list()
      printResult(terminal, options, all.map(documentOf), () => table(
        all.map(each => [each.name, each.did, each.kind, each.context ?? '']),
        { boxes: terminal.resultsAreSeen, head: ['name', 'did', 'kind', 'context'] },
      ))
    })

  withJson(group.command('derive').description('derive an identity for another context from a root'))
    .argument('[root]', 'name of the root', 'default')
    .requiredOption('--context <text>', 'what it is for, 1 to 256 bytes: the same context gives the same DID again')
    .requiredOption('--as <name>', 'under which name')
    .addHelpText('after', examples(['cmesh identity derive work --context shop --as work-shop', 'another DID, which nobody can link to the root']))
    .action(async (root: string, options: JsonOption & { readonly context: string, readonly as: string }) => {
      show(terminal, options, await identities(terminal).derive(root, options.context, options.as))
    })

  withJson(group.command('export').description('print the secret of an identity'))
    .argument('<name>', 'which')
    .option('--words', 'the 24 words of a root: the secret behind all that is derived of it')
    .option('--seed', 'the seed of this DID alone')
    .option('-y, --yes', 'yes, print a secret')
    .addHelpText('after', examples(
      ['cmesh identity export work --words --yes', 'its 24 words, to write down'],
      ['cmesh identity export work-shop --seed --yes', 'the secret of one DID'],
    ))
    .action(async (name: string, options: ExportOptions) => {
      if (options.words === options.seed) throw usage('Give either --words or --seed.')
      if (options.yes !== true) throw usage('What this prints is a secret: whoever reads it is this identity. Say --yes to print it.')
      const store = identities(terminal)
      const words = options.words === true
      const secret = words ? await store.exportWords(name) : await store.exportSeed(name)
      printResult(terminal, options, words ? { name, words: secret } : { name, seed: secret }, () => [secret])
    })

  withJson(group.command('import').description('take in the words of a root, or a seed, from a file'))
    .argument('<name>', 'under which name')
    .argument('<file>', 'file with 24 words or a seed; - for standard input')
    .addHelpText('after', examples(
      ['cmesh identity import work words.txt', 'a root, by its words'],
      ['cmesh identity import work-shop -', 'a seed or words from standard input'],
    ))
    .action(async (name: string, file: string, options: JsonOption) => {
      const bytes = await readInput(file)
      if (bytes.length > SECRET_BYTES) throw usage(`${file} is larger than ${SECRET_BYTES} bytes: it holds no words.`)
      show(terminal, options, await identities(terminal).import(name, Buffer.from(bytes).toString('utf8')))
    })
}

const KINDS = { root: 'a root, with 24 words', derived: 'derived of a root', seed: 'a seed, without words' } as const

interface Rotation extends RotationState {
  /** What the mesh knows of its commitment, where it was asked. */
  readonly known: 'none' | 'same' | 'another' | undefined
}

const NEXT = {
  here: 'on this machine: `cmesh identity next` carries its words away', away: 'kept apart from this machine', none: 'none yet: `cmesh login` makes it',
} as const
const KNOWN = { none: 'knows none: `cmesh login` tells it', same: 'knows it', another: 'knows another one than this machine' } as const

function show(terminal: Terminal, options: JsonOption, info: IdentityInfo, rotation?: Rotation): void {
  const { name, did, kind, context, root } = info
  const { generation, next, pending, known } = rotation ?? {}
  const more = rotation === undefined ? {} : { generation, next, ...(pending !== undefined && { pending }), ...(known !== undefined && { mesh: known }) }
  printResult(terminal, options, { ...documentOf(info), ...more }, () => fields(terminal, [
    ['name', name], ['did', did], ['kind', KINDS[kind]],
    ...(context === undefined ? [] : [['context', terminal.foreign(context)] as const]),
    ...(root === undefined ? [] : [['root', root] as const]),
    ...(generation === undefined ? [] : [['generation', String(generation)] as const]),
    ...(next === undefined ? [] : [['next root', NEXT[next]] as const]),
    ...(pending === undefined ? [] : [['rotation', `begun, to ${pending}: \`cmesh identity rotate ${name}\` goes on`] as const]),
    ...(known === undefined ? [] : [['the mesh', KNOWN[known]] as const]),
  ]))
}

function documentOf({ name, did, kind, context, root }: IdentityInfo): object {
  return { name, did, kind, ...(context !== undefined && { context }), ...(root !== undefined && { root }) }
}
