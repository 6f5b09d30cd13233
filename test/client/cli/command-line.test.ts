import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import type { Command } from 'commander'
import { EXIT, exitCodeOf, Reported } from '../../../client/cli/exit-codes.ts'
import { buildProgram, run } from '../../../client/cli/program.ts'
import { CATALOGUE, CMeshError, type ErrorCode } from '../../../cmtp/errors.ts'
import { readVectors } from '../../support/vectors.ts'
import { capture } from '../support/capture.ts'
import { until } from '../support/until.ts'

let dir: string
beforeAll(async () => { dir = await mkdtemp(join(tmpdir(), 'cmesh-cli-')) })
afterAll(() => rm(dir, { recursive: true, force: true }))
/** No mesh, no identity of the person who runs the tests. */
const nowhere = (): NodeJS.ProcessEnv => ({ CMESH_DATA_DIR: join(dir, 'none'), CMESH_CONFIG_DIR: join(dir, 'config') })

function leaves(command: Command): Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leaves)
}

function pathOf(command: Command): string[] {
  return command.parent === null ? [] : [...pathOf(command.parent), command.name()]
}

const COMMANDS = leaves(await buildProgram(capture().terminal)).map(pathOf)

describe('help', () => {
  test('names every command that is promised', () => {
    expect(COMMANDS.map((path) => path.join(' ')).sort()).toEqual([
      'attribute hold', 'attribute issue', 'attribute list', 'attribute present', 'attribute request', 'audit verify',
      'authz explain', 'authz grant', 'authz list', 'authz revoke',
      'backup', 'call', 'capability delegate', 'capability export', 'capability import', 'capability list', 'capability revoke',
      'cluster restart', 'cluster show', 'completion', 'consensus accept-loss', 'consensus migrate', 'consensus skip',
      'contract build', 'contract call', 'contract check', 'contract client', 'contract deploy', 'contract dry-run', 'contract gas', 'contract inspect',
      'contract new', 'contract proxy', 'contract replace', 'contract test', 'contract verify',
      'demo', 'deploy', 'dlq drop', 'dlq ls', 'dlq replay', 'dlq show',
      'events groups', 'events publish', 'events range', 'events read', 'events remove-group', 'events tail', 'events take',
      'identity derive', 'identity export', 'identity import', 'identity list', 'identity new', 'identity next', 'identity rotate', 'identity show',
      'keys drop', 'keys rotate', 'keys show', 'later cancel', 'later ls', 'login', 'mesh certify', 'mesh did', 'mesh init',
      'name release', 'name renew', 'name transfer', 'name update',
      'operator export', 'operator init', 'operator show', 'receipt export', 'receipt find', 'receipt redact', 'receipt replay', 'receipt show',
      'receipt verify', 'register', 'resolve', 'restore', 'spam',
      'state checkpoint', 'state diff', 'state get', 'state verify', 'status', 'up', 'verify', 'whoami',
    ])
  })

  test.each(COMMANDS.map((path) => [path.join(' '), path] as const))('of %s has examples that begin with it', async (name, path) => {
    const { terminal, out, err } = capture()
    expect(await run([...path, '--help'], terminal)).toBe(EXIT.ok)
    expect(out()).toContain('\nExamples:\n')
    const examples = out().slice(out().indexOf('\nExamples:\n')).split('\n').filter((line) => line.startsWith('  $ '))
    expect(examples.length).toBeGreaterThan(0)
    for (const line of examples) expect(line).toContain(`cmesh ${name}`)
    expect(err()).toBe('')
  })

  test.each(COMMANDS.filter(([name]) => name !== 'completion').map((path) => [path.join(' '), path] as const))('of %s offers --json', async (_, path) => {
    const { terminal, out } = capture()
    await run([...path, '--help'], terminal)
    expect(out()).toMatch(/^ {2}--json/m)
  })

  test('of cmesh lists every exit code', async () => {
    const { terminal, out } = capture()
    await run(['--help'], terminal)
    const listed = [...out().matchAll(/^ {2}(\d+) {2,}/gm)].map(([, code]) => Number(code))
    expect(listed).toEqual(Object.values(EXIT))
  })

  test('every option of every example is one that the command has', async () => {
    const program = await buildProgram(capture().terminal)
    for (const command of leaves(program)) {
      const known = new Set(command.createHelp().visibleOptions(command).map((option) => option.long))
      let help = ''
      command.configureOutput({ writeOut: (text) => { help += text } }).outputHelp()
      for (const line of help.split('\n').filter((each) => each.startsWith('  $ '))) {
        for (const word of line.split(/\s+/).filter((each) => /^--[a-z-]+$/.test(each))) expect(known).toContain(word)
      }
    }
  })

  test('--version prints the version of the package', async () => {
    const { terminal, out } = capture()
    expect(await run(['--version'], terminal)).toBe(EXIT.ok)
    expect(out()).toMatch(/^\d+\.\d+\.\d+\n$/)
  })
})

describe('a wrong command line', () => {
  test.each<[readonly string[], RegExp]>([
    [['nope'], /^error CMESH_CLIENT_USAGE: unknown command 'nope'\n/],
    [['call'], /missing required argument 'fqmn'/],
    [['call', 'x', '--nope'], /unknown option '--nope'/],
    [['call', '0xS:0x001', '--timeout', '0'], /It must be an integer from 1 to 300000\./],
    [['call', '0xS:0x001', '--timeout', '1e3'], /It must be an integer from 1 to 300000\./],
    [['call', '0xS:0x001', '--body', 'a', '--body-file', 'b'], /error CMESH_CLIENT_USAGE: Give --body or --body-file, not both\./],
    [['call', '0xS:0x001', '--body-file', '/nowhere/at/all'], /error CMESH_CLIENT_USAGE: \/nowhere\/at\/all cannot be read/],
    [['events', 'publish', 'news'], /error CMESH_CLIENT_USAGE: Give a payload or --file\./],
    [['deploy', 'x.wasm', '--init', '{}'], /--init takes a JSON array/],
    [['deploy', 'x.wasm', '--salt', 'ab'], /--salt takes 32 hex digits in lower case\./],
    [['contract', 'nope'], /unknown command 'nope'/],
    [['contract', 'new'], /missing required argument 'name'/],
    [['contract', 'new', 'Not-A-Name'], /Not-A-Name is no name for a contract/],
    [['contract', 'build', '/nowhere/at/all'], /There is no \/nowhere\/at\/all\. `cmesh contract new NAME` makes a contract\./],
    [['contract', 'check', 'package.json'], /package\.json is neither a directory nor a \.ts file\./],
    [['contract', 'test', 'docs'], /There is no contract in docs: it has no index\.ts\./],
    [['contract', 'gas', 'contracts/hello', '--threshold', '-1'], /It must be an integer from 0 to 1000\./],
    [['contract', 'replace'], /missing required argument 'contract'/],
    [['contract', 'call', '0x002', 'get', '1', '--args', '[1]'], /Give arguments as words or as --args, not both\./],
    [['contract', 'proxy', '0x002', '--init', '1'], /--init takes a JSON array/],
    ...['deploy', 'contract deploy', 'contract replace 0x002', 'contract dry-run 0x002'].flatMap((command) => ['abc', '', '1', '1.2', '1.2.3.4', '01.2.3', '1.2.3 ', `1.2.${'3'.repeat(61)}`]
      .map((version): [readonly string[], RegExp] => [[...command.split(' '), '--version', version], /It must be a semantic version like 1\.2\.3 or 2\.0\.0-rc\.1/])),
    [['contract', 'verify', '0x002', '--version', '0'], /It must be an integer from 1 to /],
    [['spam', '--count', '-1'], /It must be an integer from 1 to 100000000\./],
    [['spam', '--mix', 'a', '--log', 'b'], /Give --mix or --log, not both\./],
    [['spam', '--log', '/nowhere/at/all'], /The request log \/nowhere\/at\/all cannot be read/],
    [['up', '--set', 'novalue'], /It must be KEY=VALUE\./],
    [['up', '--operator', 'me'], /argument 'me' is invalid\. It must be a DID/],
    [['call', '0xS:0x001:f', '--if-match', '0'.repeat(64)], /--if-match goes with a write/],
    [['call', '0xSW:0x001:f', '--in', '31622400001'], /It must be an integer from 0 to 31622400000 \(366 days\)\./],
    [['call', '0xSW:0x001:f', '--in', '100', '--receipt', 'x'], /option '--in <ms>' cannot be used with option '--receipt/],
    [['call', '0xSW:0x001:f', '--at', '2030-01-31', '--witness', 'x'], /option '--at <time>' cannot be used with option '--witness/],
    [['call', '0xSW:0x001:f', '--receipt', 'ful'], /--receipt ful is neither none, hash nor full\. Did you mean full\? A file of that name is \.\/ful\./],
    [['call', '0xSW:0x001:f', '--receipt', 'x', '--witness', './x'], /A receipt and its witness are two files, and x is one\./],
    [['call', '0xSW:0x001:f', '--receipt', 'full', '--witness', 'x'], /--witness and --no-witness go with --receipt FILE/],
    [['call', '0xSW:0x001:f', '--no-witness'], /--witness and --no-witness go with --receipt FILE/],
    [['name', 'transfer', 'a.mcom', 'ben'], /value 'ben' is invalid for argument 'did'\. It must be a DID/],
    [['consensus', 'skip', '--from', 'x.json', '--reason', 'why'], /option '--from <file>' cannot be used with option '--reason <text>'/],
    [['consensus', 'skip', '--from', 'x.json', '--yes'], /option '--from <file>' cannot be used with option '--yes'/],
    [['completion', 'csh'], /Allowed choices are bash, zsh, fish\./],
    [['whoami', '--identity', '../me'], /The name of an identity has 1 to 64 letters/],
  ])('%j ends with 2 and says what is wrong', async (args, message) => {
    const { terminal, out, err } = capture({ env: { ...nowhere(), CMESH_URL: 'nats://127.0.0.1:1' } })
    expect(await run(args, terminal)).toBe(EXIT.usage)
    expect(err()).toMatch(message)
    expect(out()).toBe('')
  })

  test('with --json is a document on stdout as well', async () => {
    const { terminal, out } = capture()
    expect(await run(['call', '--json'], terminal)).toBe(EXIT.usage)
    expect(JSON.parse(out())).toEqual({ error: { code: 'CMESH_CLIENT_USAGE', message: 'missing required argument \'fqmn\'', status: 400, retry: 'terminal', detail: { reason: 'missing required argument \'fqmn\'' } } })
  })

  test('an address that is none is refused before anything is sent thirty thousand times', async () => {
    const { terminal, err } = capture({ env: nowhere() })
    expect(await run(['spam', '--mix', '0xQ:x'], terminal)).toBe(EXIT.refused)
    expect(err()).toMatch(/^error CMESH_FQMN_OPCODE: /)
  })
})

describe('a receipt of a write', () => {
  const file = (name: string): string => fileURLToPath(new URL(`../../vectors/receipts/${name}.receipt`, import.meta.url))
  const { mesh } = readVectors<{ readonly mesh: string }>('receipts/index.json')

  test.each<[string, readonly string[], number, RegExp]>([
    ['shown', ['show', file('a-write-that-members-claim')], EXIT.ok, /^claimed by 3 of 3 members, level disk$/m],
    ['from before, shown', ['show', file('a-write')], EXIT.ok, /^claimed by 3 members, level os$/m],
    ['verified', ['verify', file('a-write-that-members-claim'), '--mesh', mesh, '--claims', '3'], EXIT.ok, /^claimed by 3 of 3 members, level disk\ndid:key:z\w+: block \d+ of epoch 0, level disk\n/m],
    ['with fewer claims than are asked for', ['verify', file('a-write-that-members-claim'), '--mesh', mesh, '--claims', '4'], EXIT.refused, /^invalid: claims: it has 3 claims where 4 are needed$/m],
    ['as JSON', ['show', file('a-write-that-members-claim'), '--json'], EXIT.ok, /"claimed": ?\{\s*"by": ?3,\s*"of": ?3,\s*"level": ?"disk"\s*\}/],
  ])('%s, says how many members claimed it', async (_, args, code, says) => {
    const { terminal, out } = capture()
    expect(await run(['receipt', ...args], terminal)).toBe(code)
    expect(out()).toMatch(says)
  })
})

describe('no mesh', () => {
  test.each([[['whoami']], [['status']], [['login', '--yes']], [['call', '0xS:0x001']], [['events', 'read', 'news']], [['resolve', 'a.mcom']]])('%j ends with 3 and says where it looked', async (args) => {
    const { terminal, out, err } = capture({ env: nowhere() })
    expect(await run(args, terminal)).toBe(EXIT.unreachable)
    expect(err()).toBe(`error CMESH_CLIENT_NO_MESH: No mesh answers at ${join(dir, 'none', 'mesh.json')}: there is no descriptor of a running mesh. Start one with \`cmesh up\`, or say where it is by --data, --url or CMESH_URL.\n`)
    expect(out()).toBe('')
  })

  test('is waited for no longer than --timeout says where what listens there never says anything', async () => {
    const sockets: Socket[] = []
    const silent = createServer((socket) => { sockets.push(socket) })
    await new Promise<void>((resolve) => { silent.listen(0, '127.0.0.1', resolve) })
    const url = `nats://127.0.0.1:${(silent.address() as AddressInfo).port}`
    try {
      // It began before, and is still waiting when the other has given up.
      const patient = capture({ env: nowhere() })
      const waiting = run(['whoami', '--url', url, '--identity', 'patient'], patient.terminal)
      await until('it waits for an answer', () => sockets.length === 1)
      const { terminal, err } = capture({ env: nowhere() })
      expect(await run(['whoami', '--url', url, '--identity', 'impatient', '--timeout', '100'], terminal)).toBe(EXIT.unreachable)
      expect(err()).toContain(`error CMESH_CLIENT_NO_MESH: No mesh answers at ${url}: `)
      patient.interrupt.abort()
      expect(await waiting).toBe(EXIT.interrupted)
    } finally {
      for (const socket of sockets) socket.destroy()
      silent.close()
    }
  })

  test('with --json is one document with the error', async () => {
    const { terminal, out } = capture({ env: { ...nowhere(), CMESH_URL: 'nats://127.0.0.1:1' } })
    expect(await run(['whoami', '--json'], terminal)).toBe(EXIT.unreachable)
    expect(JSON.parse(out())).toMatchObject({ error: { code: 'CMESH_CLIENT_NO_MESH', status: 503, retry: 'retry' } })
    expect(out().trimEnd()).not.toContain('\n')
  })
})

describe('exit codes', () => {
  test('follow the status of each code in the catalogue', () => {
    for (const [code, { status }] of Object.entries(CATALOGUE)) {
      const exit = exitCodeOf(new CMeshError(code as ErrorCode))
      const usage = ['CMESH_CLIENT_USAGE', 'CMESH_CLIENT_FILE', 'CMESH_BROKER_ACCOUNTS', 'CMESH_RECEIPT_FORMAT'].includes(code) || code.startsWith('CMESH_CONFIG_')
      const expected = code === 'CMESH_CLIENT_ABORTED' ? EXIT.interrupted : usage ? EXIT.usage : status < 500 ? EXIT.refused : EXIT.unreachable
      expect([code, exit]).toEqual([code, expected])
    }
  })

  test('tell a failure of cmesh itself from one of the mesh', () => {
    expect(exitCodeOf(new TypeError('oops'))).toBe(EXIT.internal)
    expect(exitCodeOf(CMeshError.from(new TypeError('oops'), 'the client'))).toBe(EXIT.internal)
    expect(exitCodeOf(CMeshError.fromWire({ code: 'CMESH_INTERNAL', detail: { component: 'state', id: '1' } }))).toBe(EXIT.unreachable)
    expect(exitCodeOf(CMeshError.fromWire({ code: 'CMESH_FROM_THE_FUTURE' }))).toBe(EXIT.unreachable)
    expect(exitCodeOf(new Reported(7))).toBe(7)
  })

  test('an interrupted command ends with 130 and no message', async () => {
    const { terminal, interrupt, out, err } = capture({ env: { ...nowhere(), CMESH_URL: 'nats://127.0.0.1:1' } })
    interrupt.abort()
    expect(await run(['whoami', '--json'], terminal)).toBe(EXIT.interrupted)
    // How long it takes may be said, where the machine stands still.
    expect([out(), err().replace(/^connecting to \S+ \(\d+ s\)\n/gm, '')]).toEqual(['', ''])
  })
})

describe('colours', () => {
  const ESCAPE = '\u001b['
  test.each<[string, { tty: boolean, env: NodeJS.ProcessEnv }, boolean]>([
    ['on a terminal', { tty: true, env: {} }, true],
    ['elsewhere', { tty: false, env: {} }, false],
    ['on a terminal with NO_COLOR', { tty: true, env: { NO_COLOR: '1' } }, false],
    ['on a terminal with an empty NO_COLOR, which counts for nothing', { tty: true, env: { NO_COLOR: '' } }, true],
    ['on a dumb terminal', { tty: true, env: { TERM: 'dumb' } }, false],
  ])('%s', async (_, { tty, env }, coloured) => {
    const { terminal, err } = capture({ tty, env: { ...nowhere(), ...env } })
    await run(['whoami'], terminal)
    expect(err().includes(ESCAPE)).toBe(coloured)
    expect(terminal.style('bold', 'x').includes(ESCAPE)).toBe(coloured)
  })

  test('what comes from elsewhere cannot drive the terminal, and a pipe gets its bytes', () => {
    const hostile = Buffer.from('a\u001b]0;owned\u0007\r\u009b2Jb\tc\n')
    const seen = capture({ tty: true })
    seen.terminal.printForeign(hostile)
    expect(seen.out()).toBe('a\\x1b]0;owned\\x07\\x0d\\x9b2Jb\tc\n')
    const piped = capture()
    piped.terminal.printForeign(hostile)
    expect(piped.out()).toBe(hostile.toString())
  })
})

describe('completion', () => {
  async function script(shell: string): Promise<string> {
    const { terminal, out } = capture()
    expect(await run(['completion', shell], terminal)).toBe(EXIT.ok)
    const file = join(dir, `completion.${shell}`)
    await writeFile(file, out())
    return file
  }

  const has = (shell: string): boolean => {
    try {
      execFileSync(shell, ['-c', 'true'])
      return true
    } catch {
      return false
    }
  }

  /** What bash offers for a line whose last word is being typed. */
  function offered(file: string, ...words: readonly string[]): string[] {
    const quoted = words.map((word) => `'${word}'`).join(' ')
    const code = `source '${file}'; COMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}; _cmesh; printf '%s\\n' "\${COMPREPLY[@]}"`
    return execFileSync('bash', ['--norc', '-c', code], { cwd: dir, encoding: 'utf8' }).split('\n').filter((line) => line !== '')
  }

  test('bash accepts the script', async () => {
    execFileSync('bash', ['-n', await script('bash')])
  })

  test('bash completes commands, subcommands and options', async () => {
    const file = await script('bash')
    expect(offered(file, 'cmesh', 're')).toEqual(['register', 'resolve', 'restore', 'receipt'])
    expect(offered(file, 'cmesh', 'events', 'p')).toEqual(['publish'])
    expect(offered(file, 'cmesh', 'contract', 'd')).toEqual(['deploy', 'dry-run'])
    expect(offered(file, 'cmesh', 'contract', 'gas', '--th')).toEqual(['--threshold'])
    expect(offered(file, 'cmesh', 'events', 'range', '--f')).toEqual(['--from'])
    expect(offered(file, 'cmesh', 'call', '0xS:0x001', '--rec')).toEqual(['--receipt'])
  });

  (has('zsh') ? test : test.skip)('zsh accepts the script (skipped where there is no zsh)', async () => {
    execFileSync('zsh', ['-n', await script('zsh')])
  });

  (has('fish') ? test : test.skip)('fish accepts the script (skipped where there is no fish)', async () => {
    execFileSync('fish', ['-n', await script('fish')])
  })

  test('zsh and fish get a line for every command', async () => {
    for (const shell of ['zsh', 'fish']) {
      const { terminal, out } = capture()
      await run(['completion', shell], terminal)
      for (const path of COMMANDS) expect(out()).toContain(path.at(-1))
    }
  })
})
