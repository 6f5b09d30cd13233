/**
 * `cmesh attribute`: credentials, from the issuer that signs them to the holder who shows some of what they say. None of these talks
 * to a mesh; `cmesh login --attribute` does.
 */
import type { Command } from 'commander'
import { issueCredentials } from '../../../cmtp/identity/credential.ts'
import type { ClaimValue } from '../../../cmtp/identity/credential-text.ts'
import { PublicKey, type KeyPair } from '../../../cmtp/identity/keys.ts'
import { BATCH_MOST, CredentialStore } from '../../credential-store.ts'
import { usage } from '../../options.ts'
import { examples, identities, integerFrom, printResult, time, withJson, type JsonOption } from '../command.ts'
import { readInput } from '../input.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'

interface AttributeOptions extends JsonOption {
  readonly identity: string
}

const DAY_S = 86_400

export function attribute(program: Command, terminal: Terminal): void {
  const group = program.command('attribute').description('issue, hold and show credentials')
    .addHelpText('after', examples(
      ['cmesh attribute request --count 10 > keys', 'keys for ten credentials, each to be shown once'],
      ['cmesh attribute issue https://example.org/age over_18=true --to-file keys > batch', 'by the issuer'],
      ['cmesh attribute hold batch', 'keep them'],
      ['cmesh login --attribute https://example.org/age#over_18', 'show one'],
    ))

  withIdentity(group.command('request').description('make keys for credentials that are each shown once, and print their DIDs'), 'whose')
    .option('--count <n>', `how many, 1 to ${BATCH_MOST}`, integerFrom(1, BATCH_MOST), 1)
    .addHelpText('after', examples(['cmesh attribute request --count 10 > keys', 'ten keys, for an issuer']))
    .action(async (options: AttributeOptions & { readonly count: number }) => {
      const { store } = await open(terminal, options)
      const dids = await store.makeKeys(options.identity, options.count)
      printResult(terminal, options, { holders: dids }, () => dids)
    })

  withIdentity(group.command('issue').description('sign claims about whoever holds a key, one credential for each key'), 'who says so')
    .argument('<type>', 'what kind of credential it is, such as https://example.org/age')
    .argument('<claims...>', 'name=value; a value is text, a whole number, true or false')
    .option('--to <dids...>', 'the holder\'s DID, or those of its `request`')
    .option('--to-file <file>', 'the DIDs in a file, one a line; - for standard input')
    .option('--days <n>', 'how many days they are valid after today', integerFrom(1, 3_650), 30)
    .addHelpText('after', examples(
      ['cmesh attribute issue https://example.org/age over_18=true --to did:key:z6Mk…', 'a credential that is shown again and again'],
      ['cmesh attribute issue https://example.org/age over_18=true --to-file keys > batch', 'one for each key, each shown once'],
    ))
    .action(async (vct: string, claims: readonly string[], options: IssueOptions) => {
      const holders = await holdersOf(options)
      const { own } = await open(terminal, options)
      const credentials = await issueCredentials({
        issuer: own, vct, claims: claimsOf(claims), holders, lifeS: (options.days + 1) * DAY_S, nowS: today(),
      })
      printResult(terminal, options, { issuer: own.did, credentials }, () => credentials)
    })

  withIdentity(group.command('hold').description('keep credentials that were issued to you'), 'who holds them')
    .argument('<file>', 'credentials, one a line; - for standard input')
    .addHelpText('after', examples(
      ['cmesh attribute hold batch', 'those in a file'],
      ['cmesh attribute hold - --identity work', 'from standard input, for another identity'],
    ))
    .action(async (file: string, options: AttributeOptions) => {
      const { store, own } = await open(terminal, options)
      const held = []
      for (const text of await linesOf(file)) held.push(await store.hold(options.identity, own, text))
      const ids = [...new Set(held.flatMap(({ attributes }) => attributes.map(({ id }) => id)))]
      printResult(terminal, options, { held: held.length, attributes: ids }, () => [`holds ${held.length} with ${ids.join(', ')}`])
    })

  withIdentity(group.command('list').description('list the attributes you can show'), 'whose')
    .addHelpText('after', examples(['cmesh attribute list', 'what you can show, who said it, until when']))
    .action(async (options: AttributeOptions) => {
      const { store, own } = await open(terminal, options)
      const rows = (await store.list(options.identity, own)).flatMap(({ attributes, expires, oneTime }) => attributes.map(
        ({ id, value, issuer }) => ({ id, value, issuer, expiresAtMs: expires * 1_000, oneTime, expired: expires <= nowS() }),
      ))
      printResult(terminal, options, rows, () => table(
        rows.map(({ id, value, issuer, expiresAtMs, oneTime, expired }) => [
          id, terminal.foreign(value), issuer, expired ? 'expired' : time(expiresAtMs), oneTime ? 'once' : 'again and again',
        ]),
        { boxes: terminal.resultsAreSeen, head: ['attribute', 'value', 'issuer', 'until', 'shown'] },
      ))
    })

  withIdentity(group.command('present').description('show attributes to somebody else than a mesh'), 'who shows them')
    .argument('<ids...>', '<type>#<claim>, or <type>#<claim>@<issuer>')
    .requiredOption('--audience <did>', 'who it is for')
    .requiredOption('--nonce <text>', 'what they gave you to answer')
    .addHelpText('after', examples(
      ['cmesh attribute present https://example.org/age#over_18 --audience did:key:z6Mk… --nonce n', 'for them, and for this once'],
    ))
    .action(async (ids: readonly string[], options: AttributeOptions & { readonly audience: string, readonly nonce: string }) => {
      const { store, own } = await open(terminal, options)
      const { audience, nonce } = options
      const presentations = await store.present(options.identity, own, ids, { audience, nonce, nowS: nowS() })
      printResult(terminal, options, { presentations }, () => presentations)
    })
}

interface IssueOptions extends AttributeOptions {
  readonly to?: readonly string[]
  readonly toFile?: string
  readonly days: number
}

function withIdentity(command: Command, what: string): Command {
  return withJson(command).option('--identity <name>', `which of your identities: ${what}`, 'default')
}

async function open(terminal: Terminal, { identity }: AttributeOptions): Promise<{ readonly store: CredentialStore, readonly own: KeyPair }> {
  const names = identities(terminal)
  const own = await names.loadIdentity(identity)
  if (own === undefined) throw usage(`There is no identity ${identity}; \`cmesh identity new ${identity}\` makes it.`)
  return { store: new CredentialStore(names.directory), own }
}

async function holdersOf({ to = [], toFile }: IssueOptions): Promise<PublicKey[]> {
  const dids = [...to, ...(toFile === undefined ? [] : await linesOf(toFile))]
  if (dids.length === 0) throw usage('Say who it is issued to: --to <did>, or --to-file <file>.')
  if (dids.length > BATCH_MOST) throw usage(`A batch has 1 to ${BATCH_MOST} credentials.`)
  if (new Set(dids).size !== dids.length) throw usage('A DID is named twice: two credentials of one key can be linked.')
  return dids.map(did => PublicKey.fromDid(did))
}

function claimsOf(texts: readonly string[]): Record<string, ClaimValue> {
  const claims = new Map<string, ClaimValue>()
  for (const text of texts) {
    const at = text.indexOf('=')
    if (at < 1) throw usage(`A claim is name=value, not ${text}.`)
    const name = text.slice(0, at)
    if (claims.has(name)) throw usage(`The claim ${name} is given twice.`)
    claims.set(name, valueOf(text.slice(at + 1)))
  }
  return Object.fromEntries(claims)
}

function valueOf(text: string): ClaimValue {
  if (text === 'true' || text === 'false') return text === 'true'
  // A number in its one spelling: 007 is text.
  return String(Number(text)) === text && Number.isSafeInteger(Number(text)) ? Number(text) : text
}

async function linesOf(file: string): Promise<string[]> {
  return Buffer.from(await readInput(file)).toString('utf8').split('\n').map(line => line.trim()).filter(line => line !== '')
}

/** The day that began last (UTC): to the second, the time alone would tell which credentials are of one batch. */
function today(): number {
  return Math.floor(nowS() / DAY_S) * DAY_S
}

function nowS(): number {
  return Math.floor(Date.now() / 1_000)
}
