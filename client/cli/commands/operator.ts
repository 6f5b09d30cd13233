/**
 * `cmesh operator`: the accounts of a NATS server or cluster of one's own, as files; a node makes those of its own broker by
 * itself. None of these talks to a mesh or a server, and none prints a secret. The operator here is NATS's, who signs accounts; the
 * operator of a mesh is a DID, who holds every right there.
 */
import type { Command } from 'commander'
import { ACCOUNT_NAMES, currentAccounts, makeAccounts, type AccountName, type BrokerAccounts } from '../../../cmtp/identity/nats-accounts.ts'
import { decodeNatsJwt, type NatsClaims } from '../../../cmtp/identity/nats-jwt.ts'
import { AccountFiles, ACCOUNT_FILES } from '../../account-files.ts'
import { usage } from '../../options.ts'
import { examples, fields, printResult, time, withJson, type JsonOption } from '../command.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'

interface InitOptions extends JsonOption {
  readonly out: string
  readonly force?: boolean
}

interface ExportOptions extends InitOptions {
  readonly from: string
  readonly serverDir?: string
}

export function operator(program: Command, terminal: Terminal): void {
  const group = program.command('operator').description('make the accounts of a NATS server or cluster of your own')
    .addHelpText('after', examples(
      ['cmesh operator init --out ~/cmesh-operator', 'keys and accounts, once; keep them off the servers'],
      ['cmesh operator export --from ~/cmesh-operator --out ./nats', 'what servers and nodes get of them'],
      ['nats-server -c ./nats/nats.conf', 'a server that enforces them'],
      ['cmesh up --nats-url nats://127.0.0.1:4222 --set bus.accounts=./nats/node.json', 'a node on it'],
    ))
    .addHelpText('after', '\nA node without --nats-url needs none of this: its own broker has accounts from the start.')

  withJson(group.command('init').description('make an operator and the accounts of a mesh'))
    .requiredOption('--out <dir>', 'where accounts.json goes; the directory is made with mode 0700')
    .option('--force', 'make all keys of the accounts that are there anew: no login by the old ones counts any more')
    .addHelpText('after', examples(
      ['cmesh operator init --out ~/cmesh-operator', 'once for a mesh'],
      ['cmesh operator init --out ~/cmesh-operator --force', 'other keys for the same accounts, when a key got out'],
    ))
    .action(async (options: InitOptions) => {
      const files = new AccountFiles(options.out)
      const before = await files.whole()
      if (before !== undefined && options.force !== true) {
        throw usage(`${files.place('accounts')} exists; --force makes its keys anew, and nothing that was exported of it before counts then.`)
      }
      const made = makeAccounts(Math.floor(Date.now() / 1_000), before)
      await files.save(made)
      print(terminal, options, files.place('accounts'), made)
      if (options.json !== true) terminal.note(`Next: cmesh operator export --from ${options.out} --out DIR`)
    })

  withJson(group.command('export').description('write what the servers and the nodes get of the accounts'))
    .requiredOption('--from <dir>', 'what `cmesh operator init` made')
    .requiredOption('--out <dir>', 'where accounts.conf, nats.conf, jwt/ and node.json go')
    .option('--server-dir <dir>', 'where a server keeps its resolver\'s files, in jwt/, and its streams, in store/ (default: that of --out)')
    .option('--force', 'write over what was exported there before')
    .addHelpText('after', examples(
      ['cmesh operator export --from ~/cmesh-operator --out ./nats', 'to try it on this machine'],
      ['cmesh operator export --from ~/cmesh-operator --out ./nats --server-dir /var/lib/nats', 'for servers that keep their files there'],
    ))
    .addHelpText('after', '\nA nats.conf that is there is never written over, nor is a newer file in jwt/: a server has put revocations in.')
    .action(async (options: ExportOptions) => {
      const accounts = await new AccountFiles(options.from).whole()
      if (accounts === undefined) throw usage(`${options.from} has no ${ACCOUNT_FILES.accounts}; \`cmesh operator init --out ${options.from}\` makes it.`)
      if (currentAccounts(accounts, 0, () => undefined) !== accounts) {
        const anew = `cmesh operator init --out ${options.from} --force`
        throw usage(`${options.from} is of another version of cmesh, which let accounts do other things; \`${anew}\` makes them anew.`)
      }
      const to = new AccountFiles(options.out)
      const there = options.force === true ? undefined : await to.exported()
      if (there !== undefined) throw usage(`${there} exists; --force writes over what was exported before.`)
      const { written, kept } = await to.export(accounts, options.serverDir)
      const config = written.includes(ACCOUNT_FILES.server)
        ? 'a whole configuration to begin with; yours to change'
        : `left as it was; it needs the line: include ./${ACCOUNT_FILES.include}`
      printResult(terminal, options, { directory: to.directory, written, kept }, () => fields(terminal, [
        [ACCOUNT_FILES.node, 'for the nodes, as bus.accounts: a secret, mode 0600'],
        [ACCOUNT_FILES.include, 'for every server: its nats.conf includes it'],
        [ACCOUNT_FILES.server, config],
        [`${ACCOUNT_FILES.resolver}/`, 'for every server: what its resolver begins with'],
      ]))
      if (options.json !== true) terminal.note(`Next: nats-server -c ${to.place('server')}`)
    })

  withJson(group.command('show').description('say which accounts there are and what each may do'))
    .argument('<dir>', 'what init or export made, or operator/ in the data directory of a node')
    .addHelpText('after', examples(['cmesh operator show ~/cmesh-operator', 'no secret is shown']))
    .action(async (dir: string, options: JsonOption) => {
      const files = new AccountFiles(dir)
      const [whole, node] = [await files.whole(), await files.node()]
      const accounts = whole ?? node
      if (accounts === undefined) throw usage(`${dir} has neither ${ACCOUNT_FILES.accounts} nor ${ACCOUNT_FILES.node}.`)
      print(terminal, options, files.place(whole === undefined ? 'node' : 'accounts'), accounts)
    })
}

function print(terminal: Terminal, options: JsonOption, file: string, accounts: BrokerAccounts): void {
  const { sub, iat } = decodeNatsJwt(accounts.operatorJwt)
  const all = ACCOUNT_NAMES.map(name => ({ name, ...rightsOf(name, decodeNatsJwt(accounts.accounts[name].jwt)) }))
  const operatorKey = accounts.operator !== undefined
  printResult(terminal, options, { file, operator: sub, madeAt: time(iat * 1_000), operatorKey, accounts: all }, () => [
    ...fields(terminal, [
      ['file', file], ['operator', sub], ['made', time(iat * 1_000)],
      ['holds', operatorKey ? 'every key, the operator\'s own too: keep it off servers and nodes' : 'what a node needs, and not the operator\'s own key'],
    ]),
    ...table(all.map(({ name, id, use }) => [name, id, use]), { boxes: terminal.resultsAreSeen, head: ['account', 'id', 'for'] }),
    ...all.flatMap(({ name, users, connections }) => (users === undefined ? [] : [
      `${name}: a ${users.role} may publish ${users.publish.join(', ')}`,
      `  and subscribe to ${users.subscribe.join(', ')}; nothing else${connections < 0 ? '' : `; ${connections} connections at once`}`,
    ])),
  ])
}

const USES: Readonly<Record<AccountName, string>> = Object.freeze({
  SYS: 'the servers; nodes change accounts there',
  CORE: 'services, events, JetStream; nodes alone',
  MESH: 'sessions, and the routers that answer them',
  GUEST: 'newcomers, while they shake hands',
})

interface Rights {
  readonly id: string
  readonly use: string
  /** Most at once; -1 is no bound. */
  readonly connections: number
  /** What every user but the nodes' own may do. Absent: there are no others. */
  readonly users?: { readonly role: string, readonly publish: readonly string[], readonly subscribe: readonly string[] }
}

/** As the account's own JWT says it, which is what a server goes by. */
function rightsOf(name: AccountName, claims: NatsClaims): Rights {
  const { limits, signing_keys: keys } = claims.nats as unknown as AccountClaims
  const scope = keys.find(key => typeof key === 'object')
  const words = (subjects: readonly string[]): string[] => subjects.map(each => each.replace('{{name()}}', '<sid>').replace('{{subject()}}', '<nkey>'))
  return {
    id: claims.sub, use: USES[name], connections: limits.conn,
    ...(scope && { users: { role: scope.role, publish: words(scope.template.pub.allow), subscribe: words(scope.template.sub.allow) } }),
  }
}

/** What is read here of an account's claims, which `accountClaims` wrote. */
interface AccountClaims {
  readonly limits: { readonly conn: number }
  readonly signing_keys: readonly (string | {
    readonly role: string
    readonly template: { readonly pub: { readonly allow: readonly string[] }, readonly sub: { readonly allow: readonly string[] } }
  })[]
}
