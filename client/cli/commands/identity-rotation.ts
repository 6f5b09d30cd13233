/**
 * `cmesh identity rotate` and `next`: another key in the place of an identity's, and the words of the root that key comes from, to be kept apart. Of these
 * `rotate` alone talks to a mesh.
 */
import type { Command } from 'commander'
import { CMeshError } from '../../../cmtp/errors.ts'
import type { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { MeshClient } from '../../mesh-client.ts'
import { usage } from '../../options.ts'
import { completeRotation, prepareRotation, rotationOf, takePlaceOf, type Opener, type Rotated, type Standing } from '../../rotation.ts'
import { RotationStore, type PendingRotation } from '../../rotation-store.ts'
import {
  didFrom, examples, fields, identities, meshOf, printResult, withClient, withJson, withLocation, type JsonOption, type MeshOptions,
} from '../command.ts'
import { readInput } from '../input.ts'
import type { Terminal } from '../terminal.ts'

/** Largest file of words, in bytes. */
const WORDS_BYTES = 4_096

interface RotateOptions extends MeshOptions {
  readonly nextWords?: string
  readonly from?: string
  readonly yes?: boolean
}

export function rotations(terminal: Terminal): RotationStore {
  return new RotationStore(identities(terminal).directory)
}

export function identityRotation(group: Command, terminal: Terminal): void {
  withJson(withLocation(group.command('rotate').description('put another key in the place of an identity\'s, which keeps all that is its')))
    .argument('[name]', 'which', 'default')
    .option('--next-words <file>', 'file with the words of its next root, where they were carried away; - for standard input')
    .option('--from <did>', 'the DID whose place it takes, where that one\'s key is lost: the identity is one of its next root, imported, and has committed to nothing there', didFrom)
    .option('-y, --yes', 'rotate without being asked, for scripts')
    .addHelpText('after', examples(
      ['cmesh identity rotate work', 'the key that it committed to takes over, at once and for good'],
      ['cmesh identity rotate work --next-words paper.txt', 'with the words that were kept apart'],
      ['cmesh identity rotate work --from did:key:z6Mk…', 'work, imported from those words, for a DID whose own key is lost'],
    ))
    .addHelpText('after', '\nCut off at any point, the same command goes on from there. Other meshes follow at the next `cmesh login` on them.')
    .action(async (name: string, options: RotateOptions) => {
      if (options.yes !== true && !terminal.answers) throw usage('Nobody is there to ask: say --yes, or rotate on a terminal.')
      const store = rotations(terminal)
      const { url } = await meshOf(terminal, options)
      const open: Opener = (key, use) => withClient(terminal, options, use, { identity: key })
      if (options.from !== undefined) return await takePlace(terminal, store, name, { ...options, from: options.from }, open)
      const pending = await store.pending(name)
      if (pending !== undefined) terminal.note(`A rotation of ${name} was begun and goes on.`)
      const plan = pending ?? await planOf(terminal, store, name, options, open)
      const { generation = 0 } = plan.file
      await agree(terminal, options, plan.old, plan.file.did)
      const rotated = await completeRotation(store, name, plan, open)
      await identities(terminal).removeSession(url, name)
      const { next } = await store.state(name)
      printResult(terminal, options, { name, ...rotated, generation, nextRoot: next }, () => fields(terminal, resultFields(name, generation, rotated)))
      if (options.json !== true) terminal.note(`Keep its next root apart from this machine: cmesh identity next ${name} --out FILE`)
    })

  withJson(group.command('next').description('carry the next root of an identity away: its words go to a file, and are forgotten here'))
    .argument('[name]', 'which', 'default')
    .requiredOption('--out <file>', 'a new file, of mode 0600, for the 24 words')
    .addHelpText('after', examples(['cmesh identity next work --out /media/stick/work-next.txt', 'whoever takes this machine cannot rotate it then; you can']))
    .action(async (name: string, options: JsonOption & { readonly out: string }) => {
      const store = rotations(terminal)
      await store.carryAway(name, options.out)
      const { did, commitment } = await store.state(name)
      const says = `The words of its next root are in ${options.out}, and no longer here.`
      printResult(terminal, options, { name, did, commitment, file: options.out }, () => [says])
    })
}

/**
 * At a login, and unasked: this mesh learns what the identity commits to, and of rotations that were made on another. What fails of it is said
 * and fails nothing else.
 */
export async function keepRotation(terminal: Terminal, options: MeshOptions & { readonly commit?: boolean }, client: MeshClient): Promise<void> {
  const { identity: name = 'default' } = options
  const store = rotations(terminal)
  const warn = (text: string): void => { terminal.note(`warning ${text}`) }
  try {
    if (await store.pending(name) !== undefined) return warn(`A rotation of ${name} was begun and not ended: cmesh identity rotate ${name}`)
    const open: Opener = (key, use) => withClient(terminal, options, use, { identity: key })
    const { commit = false } = options
    const { followed, standing } = await prepareRotation(client, store, name, open, { commit, signal: terminal.interrupted })
    const which = followed === 1 ? 'a rotation' : `${followed} rotations`
    if (followed > 0) terminal.note(`This mesh follows ${which} of ${name} now: log in again for what it may do.`)
    const [says, ...more] = WARNINGS[standing](name, (await store.heldBack(name)).awaitedBy ?? '')
    if (says !== undefined) warn(says)
    for (const line of more) terminal.note(`  ${line}`)
  } catch (thrown) {
    const { code, message } = CMeshError.from(thrown, 'the commitment')
    warn(`${code}: ${message} This mesh does not know which key ${name} may be rotated to.`)
  }
}

/** What an owner is told of how an identity stands with a mesh, and what to do about it. `other`: the identity that awaits it. */
const WARNINGS: Readonly<Record<Standing, (name: string, other: string) => readonly string[]>> = {
  committed: () => [],
  another: name => [
    `This mesh says that ${name} has committed to another next root than the one this machine knows: here it is rotated with the words of that one alone.`,
    'If you made it on another machine, keep its words.',
    `If not, somebody had the key of ${name} before you, or the mesh is not honest: entrust nothing to ${name} there, and use a new identity.`,
    'It stays this mesh\'s own matter: nothing of it is kept here or told to another mesh.',
  ],
  imported: name => [
    `${name} was imported, and has committed to no next root on this mesh.`,
    `If it is the next root of an identity whose key is lost, first take its place: cmesh identity rotate ${name} --from DID`,
    `If it is an identity of its own: cmesh login --identity ${name} --commit`,
  ],
  awaited: (name, other) => [`${name} is the next root of ${other}, and commits to nothing before it takes its place: cmesh identity rotate ${other}`],
}

/** What is to be done, once the mesh knows what the identity commits to. The old session is opened for that, where the mesh still gives one. */
async function planOf(terminal: Terminal, store: RotationStore, name: string, options: RotateOptions, open: Opener): Promise<PendingRotation> {
  const words = options.nextWords === undefined ? undefined : await wordsIn(options.nextWords)
  const old = (await store.keys(name)).at(-1) as KeyPair
  const asked = open(old, async (client) => {
    await prepareRotation(client, store, name, open, { signal: terminal.interrupted })
    return (await rotationOf(client)).next ?? undefined
  })
  // Rotated from another machine before, it has no session any more; the mesh says so when it is asked again.
  const held = await asked.catch((error: unknown) => {
    if (error instanceof CMeshError && error.code === 'CMESH_IAM_HANDSHAKE') return undefined
    throw error
  })
  return await store.plan(name, { words, held })
}

async function wordsIn(file: string): Promise<string> {
  const bytes = await readInput(file)
  if (bytes.length > WORDS_BYTES) throw usage(`${file} is larger than ${WORDS_BYTES} bytes: it holds no words.`)
  return Buffer.from(bytes).toString('utf8')
}

/** An identity that is here already, for a DID of which nothing is: no file changes. */
async function takePlace(
  terminal: Terminal, store: RotationStore, name: string, options: RotateOptions & { readonly from: string }, open: Opener,
): Promise<void> {
  const key = (await store.keys(name)).at(-1) as KeyPair
  await agree(terminal, options, options.from, key.did)
  const rotated = await open(key, client => takePlaceOf(client, store, name, options.from, { signal: terminal.interrupted }))
  await identities(terminal).removeSession((await meshOf(terminal, options)).url, name)
  const { generation, next: nextRoot } = await store.state(name)
  printResult(terminal, options, { name, ...rotated, generation, nextRoot }, () => fields(terminal, resultFields(name, generation, rotated)))
}

async function agree(terminal: Terminal, { yes }: RotateOptions, old: string, to: string): Promise<void> {
  for (const line of fields(terminal, planFields(old, to))) terminal.note(line)
  if (yes !== true && !await terminal.confirm('Rotate it?')) throw new CMeshError('CMESH_CLIENT_ABORTED')
}

function planFields(old: string, to: string): [string, string][] {
  return [
    ['from', old], ['to', to],
    ['moves', 'grants, capabilities, names, contracts it deployed, the operator\'s role'],
    ['stays', 'what contracts keep under the old DID, and credentials bound to it'],
    ['ends', 'every session of the old DID, at once and for good'],
  ]
}

function resultFields(name: string, generation: number, { old, did, moved: { grants, capabilities, names } }: Rotated): [string, string][] {
  return [
    ['rotated', `${name}, generation ${generation}`], ['from', old], ['to', did],
    ['moved', `${grants} grants, ${capabilities} capabilities, ${names} names`],
  ]
}
