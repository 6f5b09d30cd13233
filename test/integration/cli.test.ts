import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { verifyReceipt } from '../../cmtp/receipt/verify.ts'
import { CliHome, type CliRun } from '../client/support/cli-process.ts'
import { until } from '../client/support/until.ts'
import { isAlive } from '../support/node-process.ts'
import { standStill } from '../support/stand-still.ts'

let home: CliHome
let up: CliRun
beforeAll(async () => {
  home = await CliHome.make()
  up = home.start(['up'])
  await up.printed('Ctrl-C drains')
})
afterAll(() => home.close())

const { SIGTERM } = constants.signals
const HEX = /^[0-9a-f]{64}$/

describe('cmesh up', () => {
  test('says where the mesh is, who operates it and how to use it', async () => {
    const { did } = await home.json('whoami') as { did: string }
    expect(up.stdout).toMatch(/^ready nats:\/\/127\.0\.0\.1:\d+\n/)
    expect(up.stdout).toContain(`operator  ${did}\n`)
    expect(up.stdout).toContain('cmesh call 0xS:0x001:hello_world\n')
    expect(up.stderr.replace(/^starting a node.*\n/gm, '')).toBe('')
  })

  test('a second one on the same data ends with the reason', async () => {
    const { code, stdout, stderr } = await home.run(['up', '--json'])
    const [path, { pid }] = [join(home.directory, 'mesh'), await home.json('status').then((said) => (said as { node: { pid: number } }).node)]
    expect(code).toBe(3)
    const message = `Boot stopped at step data: The data directory ${path} is in use by process ${pid}. Stop that process first, or take another directory (--data, data.dir).`
    expect(JSON.parse(stdout)).toEqual({ error: { code: 'CMESH_BOOT_DATA_IN_USE', message, status: 500, retry: 'terminal', detail: { path, pid } } })
    expect(stderr).toContain(`error CMESH_BOOT_DATA_IN_USE: ${message}\n`)
  })

  test('one whose boot fails for a setting ends with 2 and its code', async () => {
    const { code, stderr } = await home.run(['up', '--data', join(home.directory, 'other'), '--set', 'state.provider=none'])
    expect([code, stderr]).toEqual([2, expect.stringMatching(/^error CMESH_CONFIG_PROVIDER: Boot stopped at step iam: There is no state provider none\./m)])
  })

  test('a wrong setting ends with 2 and names the known ones', async () => {
    const { code, stderr } = await home.run(['up', '--data', join(home.directory, 'other'), '--set', 'no.such=1'])
    expect(code).toBe(2)
    expect(stderr).toMatch(/^error CMESH_CONFIG_UNKNOWN: The setting no\.such is not known\. Known here: /m)
  })

  test('on Ctrl-C it drains, ends with 0 and takes its descriptor, node and broker along', async () => {
    const other = await CliHome.make()
    try {
      const run = other.start(['up', '--json'])
      await run.printed('\n')
      const { pid, url } = JSON.parse(run.stdout) as { pid: number, url: string }
      const broker = Number(await readFile(join(other.directory, 'mesh', 'broker', 'nats.pid'), 'utf8'))
      expect((await other.run(['status'])).code).toBe(0)
      run.child.kill('SIGINT')
      expect((await run.result).code).toBe(0)
      await until('node and broker are gone', () => !isAlive(pid) && !isAlive(broker))
      const { code, stderr } = await other.run(['status'])
      expect([code, stderr]).toEqual([3, expect.stringContaining('there is no descriptor of a running mesh')])
      expect((await other.run(['status', '--url', url])).code).toBe(3)
    } finally {
      await other.close()
    }
  })

  test('a second Ctrl-C ends it at once with 130, and a node that hangs with it', async () => {
    const other = await CliHome.make()
    let pid = 0
    try {
      const run = other.start(['up', '--json'])
      await run.printed('\n')
      pid = (JSON.parse(run.stdout) as { pid: number }).pid
      const broker = Number(await readFile(join(other.directory, 'mesh', 'broker', 'nats.pid'), 'utf8'))
      await standStill(pid)
      run.child.kill('SIGINT')
      // The first one asks for a drain, which the node does not come to.
      await until('the node was asked to drain', async () => await isPending(pid, SIGTERM))
      expect([run.child.exitCode, isAlive(pid)]).toEqual([null, true])
      run.child.kill('SIGINT')
      expect((await run.result).code).toBe(130)
      await until('node and broker are gone', () => !isAlive(pid) && !isAlive(broker))
    } finally {
      if (pid !== 0 && isAlive(pid)) process.kill(pid, 'SIGKILL')
      await other.close()
    }
  })

  test('prints the operator that its mesh has recorded, and warns where another was given or runs it', async () => {
    const other = await CliHome.make()
    try {
      const run = async (args: readonly string[] = [], env = {}): Promise<{ operator: string, stderr: string }> => {
        const up = other.start(['up', '--json', ...args], env)
        await up.printed('\n')
        up.child.kill('SIGINT')
        const { stdout, stderr } = await up.result
        return { operator: (JSON.parse(stdout) as { operator: string }).operator, stderr: stderr.replace(/^(starting a node|draining).*\n/gm, '') }
      }
      const dids = await Promise.all([1, 2].map(async (i) => (await other.json('identity', 'new', `one-${i}`) as { did: string }).did)) as [string, string]
      const warning = (given: string): string => `warning CMESH_BOOT_OPERATOR: The operator of this mesh is ${dids[0]}, as its log has it, and not ${given}. `
        + 'Who holds every right is recorded when a mesh begins; what is given later changes nothing.\n'
      // What the environment says holds here as for the node, before who runs it.
      expect(await run([], { CMESH_OPERATOR: dids[0] })).toEqual({ operator: dids[0], stderr: '' })
      // And what its file says.
      const file = join(other.directory, 'settings.json')
      await writeFile(file, JSON.stringify({ operator: dids[0] }))
      expect(await run([], { CMESH_CONFIG: file })).toEqual({ operator: dids[0], stderr: '' })
      expect(await run(['--operator', dids[1]])).toEqual({ operator: dids[0], stderr: warning(dids[1]) })
      expect(await run(['--identity', 'one-2'])).toEqual({ operator: dids[0], stderr: warning(`${dids[1]}, your identity one-2`) })
      expect(await run(['--operator', dids[1], '--set', `operator=${dids[0]}`])).toEqual({ operator: dids[0], stderr: '' })
    } finally {
      await other.close()
    }
  })

  test('interrupted while it boots it ends with 130 and leaves nothing running', async () => {
    const other = await CliHome.make()
    try {
      // A broker that is not ready keeps the node booting for as long as it is looked at.
      const [broker, file] = [join(other.directory, 'sleeper'), join(other.directory, 'sleeper.pid')]
      await writeFile(broker, `#!/bin/sh\n[ "$1" = -v ] && echo 'nats-server: v2.99.0' && exit\necho $$ > '${file}'; exec sleep 600\n`, { mode: 0o755 })
      const run = other.start(['up'], { NATS_SERVER_BIN: broker })
      let [pid, brokerPid] = [0, 0]
      await until('the node waits for its broker', async () => {
        brokerPid = Number(await readFile(file, 'utf8').catch(() => ''))
        pid = await nodeOf(run)
        return pid !== 0 && brokerPid !== 0
      })
      run.child.kill('SIGINT')
      await until('the broker was left', () => !isAlive(brokerPid), 40_000)
      expect(await run.result).toMatchObject({ code: 130, stdout: '' })
      await until('the node is gone', () => !isAlive(pid))
    } finally {
      await other.close()
    }
  })
})

/** Whether a signal waits for a process to take it. */
async function isPending(pid: number, signal: number): Promise<boolean> {
  const [, pending = '0'] = /^ShdPnd:\t([0-9a-f]+)$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8')) ?? []
  return (BigInt(`0x${pending}`) >> BigInt(signal - 1) & 1n) === 1n
}

/** Process id of the node that a command has started; 0 when it has not. */
async function nodeOf(run: CliRun): Promise<number> {
  for (const entry of await readdir('/proc')) {
    const text = /^\d+$/.test(entry) ? await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '') : ''
    if (Number(text.slice(text.lastIndexOf(')')).split(' ')[2]) === run.child.pid) return Number(entry)
  }
  return 0
}

describe('credentials', () => {
  test('are kept for their owner alone, and the session is used again', async () => {
    await home.json('login', '--yes')
    const files = (await readdir(join(home.directory, 'config'), { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())
    // The identity, its next root and the session.
    expect(files.map(({ name }) => name)).toHaveLength(3)
    for (const { parentPath, name } of files) expect((await stat(join(parentPath, name))).mode & 0o777).toBe(0o600)
    const first = await home.json('whoami') as { sid: string }
    const second = await home.json('whoami') as { sid: string }
    expect(second.sid).toBe(first.sid)
    await home.json('login', '--yes')
    expect((await home.json('whoami') as { sid: string }).sid).not.toBe(first.sid)
  })

  test('that others can read are refused', async () => {
    const other = await CliHome.make()
    try {
      const file = join(other.directory, 'config', 'identities', 'default.json')
      await mkdir(join(other.directory, 'config', 'identities'), { recursive: true, mode: 0o700 })
      await writeFile(file, '{}', { mode: 0o644 })
      const { code, stderr } = await other.run(['whoami', '--url', 'nats://127.0.0.1:1'])
      expect(code).toBe(1)
      expect(stderr).toContain(`error CMESH_CLIENT_CREDENTIALS: The credentials in ${file} cannot be used: others can read it; run: chmod 600 ${file}.`)
    } finally {
      await other.close()
    }
  })
})

describe('cmesh login, whoami and status', () => {
  test('login says who you are and what you may do', async () => {
    expect(await home.json('login', '--yes')).toEqual({
      did: expect.stringMatching(/^did:key:z6Mk/), mesh: expect.stringMatching(/^did:key:z6Mk/), url: expect.stringMatching(/^nats:/),
      sid: expect.any(String), expiresAtMs: expect.any(Number), permissions: expect.arrayContaining([expect.stringContaining('deploy')]),
      assurance: 1, attributes: [],
    })
  })

  test('status has the mesh, the node and where state stands', async () => {
    expect(await home.json('status')).toMatchObject({
      mesh: expect.stringMatching(/^did:key:/), you: expect.stringMatching(/^did:key:/), roundTripMs: expect.any(Number),
      node: { version: expect.any(String), pid: expect.any(Number), http: expect.stringMatching(/^http:/) },
      consensus: { provider: 'mock', members: [{}, {}, {}], head: { seq: expect.any(Number), chain: expect.stringMatching(HEX) } },
    })
    // Three of one process must not look like three machines.
    expect((await home.run(['status'])).stdout).toMatch(/^consensus {2}mock: a Raft group of 3 that the node simulates in its one process, term \d+$/m)
  })
})

describe('cmesh call', () => {
  test('prints the body and nothing else on stdout', async () => {
    expect(await home.run(['call', '0xS:0x001:hello_world:["Dexter"]'])).toEqual({ code: 0, stdout: '"Hello, Dexter"\n', stderr: '' })
  })

  test('reads a body from standard input', async () => {
    expect((await home.run(['call', '0xS:0x001:hello_world', '--body-file', '-'], '["stdin"]')).stdout).toBe('"Hello, stdin"\n')
  })

  test('--json has status, id, final hash and headers; a write its transaction', async () => {
    const read = await home.json('call', '0xS:0x001:hello_world')
    expect(read).toEqual({
      status: 200, id: expect.stringMatching(/^[0-9a-f]{32}$/), finalHash: expect.stringMatching(HEX),
      headers: { 'content-type': 'application/json', 'x-cmesh-gas': expect.stringMatching(/^[1-9]\d*$/) }, body: 'Hello, world',
    })
    const write = await home.json('call', '0xSW:0x001:say', '--body', '["hi"]') as { id: string }
    expect(write).toMatchObject({ status: 200, transaction: write.id, headers: { 'x-cmesh-durability': 'os' } })
  })

  test('--receipt none has no final hash, full has every hop', async () => {
    expect(await home.json('call', '0xS:0x001:hello_world', '--receipt', 'none')).toMatchObject({ finalHash: null })
    const full = await home.json('call', '0xS:0x001:hello_world', '--receipt', 'full') as { layers: { hop: string }[] }
    expect(full.layers.map(({ hop }) => hop)).toEqual(['state', 'router'])
  })

  test.each([
    ['0xS:0x001:nope', 1, 'CMESH_STATE_NO_FUNCTION'],
    ['0xR:google.com', 1, 'CMESH_REGISTRAR_NOT_FOUND'],
    ['0xQ:x', 1, 'CMESH_FQMN_OPCODE'],
    ['0xA:1:0x001:hello_world', 1, 'CMESH_ROUTER_INTERNAL_ONLY'],
    ['0xP:elsewhere:0xS:0x001', 3, 'CMESH_ROUTER_PEER'],
  ])('%s ends with %i and %s, in text and as a document with its final hash', async (fqmn, code, error) => {
    const text = await home.run(['call', fqmn])
    expect([text.code, text.stdout]).toEqual([code, ''])
    expect(text.stderr).toMatch(new RegExp(`^error ${error}: `, 'm'))
    const document = await home.run(['call', fqmn, '--json'])
    expect(document.code).toBe(code)
    expect(JSON.parse(document.stdout)).toMatchObject({ error: { code: error }, finalHash: expect.stringMatching(HEX) })
  })

  test('a deadline that passes on a mesh that hangs ends with 3', async () => {
    const { code, stderr } = await home.run(['call', '0xS:0x001:hello_world', '--url', 'nats://127.0.0.1:1', '--timeout', '100'])
    expect([code, stderr]).toEqual([3, expect.stringContaining('CMESH_CLIENT_NO_MESH')])
  })
})

describe('receipts of a node that runs', () => {
  test('a call whose receipt cannot be written prints its reply all the same, says how to get the receipt, and does not end as if nothing had been asked', async () => {
    const file = join(home.directory, 'unwritten')
    const before = Number((await home.run(['call', '0xS:0x002:get'])).stdout)
    const { code, stdout, stderr } = await home.startWithoutRoom(['call', '0xSW:0x002:increment', '--body', '["1"]', '--receipt', file]).result
    expect([code, stdout.split('\n')[0]]).toEqual([4, `${before + 1}`])
    const [, id = ''] = /^warning: \S+unwritten cannot be written: .+ The request was answered all the same; its receipt comes by `cmesh receipt find ([0-9a-f]{32})`/m.exec(stderr) ?? []
    expect((await readdir(home.directory)).filter((name) => name.startsWith('unwritten'))).toEqual([])
    expect(await home.json('receipt', 'find', id, '--out', file)).toMatchObject({ id, file })
  })

  test('one is kept, found by its id, and written by an export; the log is whole, and is what the mesh has seen', async () => {
    const [kept, found, out] = ['kept', 'found', 'receipts'].map((name) => join(home.directory, name)) as [string, string, string]
    const { id } = await home.json('call', '0xSW:0x001:say', '--body', '["kept"]', '--receipt', kept) as { id: string }
    expect(await home.json('receipt', 'find', id, '--out', found)).toEqual({ id, file: found, bytes: (await stat(found)).size })
    expect(await home.run(['receipt', 'find', id, '-o', kept])).toMatchObject({ code: 2, stderr: expect.stringContaining(`${kept} is there already and is not written over`) })
    const exported = await home.json('receipt', 'export', '--from', '1h', '--out', out) as { requests: number, written: number, pruned: number }
    expect([exported.written, exported.pruned, (await readdir(out)).length]).toEqual([exported.requests, 0, exported.requests])
    const whole = await home.json('audit', 'verify') as { mesh: string, batches: number, seen: { roots: number, to: number } }
    expect(whole).toMatchObject({ certified: true, seen: { from: 0, unsigned: 0, otherLogs: [] } })
    expect(whole.seen.to).toBeGreaterThan(0)
    expect(whole.seen.roots).toBeLessThanOrEqual(whole.batches)
    const records = await Promise.all([kept, found, join(out, `${id}.receipt`)].map(async (file) => {
      const verdict = verifyReceipt(await readFile(file), whole.mesh)
      return verdict.valid && Buffer.from(verdict.receipt.root).toString('hex')
    }))
    expect(records).toEqual(Array(3).fill(expect.stringMatching(/^01/)))
    expect(new Set(records).size).toBe(1)
    const nobody = await home.run(['audit', 'verify', '--identity', 'somebody'])
    expect([nobody.code, nobody.stderr]).toEqual([0, expect.stringContaining('warning CMESH_IAM_DENIED: Not compared with the audit channel: ')])
    expect(nobody.stdout).toContain('not compared with roots that others hold')
    const elsewhere = join(home.directory, 'elsewhere')
    expect(await home.run(['audit', 'verify', '--data', elsewhere])).toMatchObject({ code: 1, stderr: expect.stringContaining(elsewhere) })
  })
})

describe('cmesh register and resolve', () => {
  test('a name is claimed once, resolved by any spelling, and called', async () => {
    const record = await home.json('register', 'cliWorld.mcom', '0xS:0x001:hello_world')
    expect(record).toMatchObject({ name: 'cliworld.mcom', target: '0xS:0x001:hello_world', sequence: 1, owner: expect.stringMatching(/^did:key:/) })
    expect(await home.json('resolve', 'CLIWORLD.mcom')).toEqual(record)
    const taken = await home.run(['register', 'cliworld.mcom', '0xS:0x001'])
    expect(taken.code).toBe(1)
    expect(taken.stderr).toMatch(/^error CMESH_REGISTRAR_TAKEN: The name cliworld\.mcom is taken by did:key:\S+ until \S+\.\nhint /m)
    expect((await home.run(['call', '0xR:cliWorld.mcom:["name"]'])).stdout).toBe('"Hello, name"\n')
    expect((await home.run(['resolve', 'nobody.mcom'])).code).toBe(1)
  })

  test('its owner lets it map elsewhere, prolongs it, hands it over and gives it up; nobody else does', async () => {
    const { did: ben } = await home.json('whoami', '--identity', 'ben') as { did: string }
    const first = await home.json('register', 'handed.mcom', '0xS:0x001') as { owner: string, expiresAtMs: number }
    const taken = await home.run(['register', 'handed.mcom', '0xS:0x001', '--identity', 'ben'])
    expect(taken.stderr).toContain('hint Its owner can change it by `cmesh name update`;')
    expect(await home.run(['name', 'update', 'handed.mcom', '0xS:0x001:hello_world', '--identity', 'ben'])).toMatchObject({
      code: 1, stdout: '', stderr: expect.stringContaining(`error CMESH_REGISTRAR_NOT_OWNER: The name handed.mcom belongs to ${first.owner}; only its owner may update it.`),
    })
    const updated = await home.run(['name', 'update', 'HANDED.mcom', '0xS:0x001:hello_world'])
    expect(updated).toMatchObject({ code: 0, stdout: expect.stringMatching(/^name +handed\.mcom\ntarget +0xS:0x001:hello_world\n/) })
    expect((await home.run(['call', '0xR:handed.mcom:["again"]'])).stdout).toBe('"Hello, again"\n')
    const renewed = await home.json('name', 'renew', 'handed.mcom') as { expiresAtMs: number }
    expect(renewed.expiresAtMs).toBeGreaterThan(first.expiresAtMs)
    expect(await home.json('name', 'transfer', 'handed.mcom', ben)).toMatchObject({ name: 'handed.mcom', owner: ben, target: '0xS:0x001:hello_world', sequence: 3 })
    expect(await home.run(['name', 'release', 'handed.mcom'])).toMatchObject({ code: 1, stderr: expect.stringContaining(`belongs to ${ben}; only its owner may release it.`) })
    expect(await home.run(['name', 'release', 'handed.mcom', '--identity', 'ben'])).toEqual({ code: 0, stdout: 'handed.mcom released\n', stderr: '' })
    expect((await home.run(['resolve', 'handed.mcom'])).stderr).toMatch(/^error CMESH_REGISTRAR_NOT_FOUND: /)
  })

  test('a name for a function that writes is called as one that writes', async () => {
    await home.json('register', 'saying.mcom', '0xSW:0x001:say')
    expect((await home.run(['call', '0xR:saying.mcom:["hi"]'])).stderr).toMatch(/^error CMESH_REGISTRAR_WRITE_TARGET: /)
    expect(await home.run(['call', '0xRW:saying.mcom:["hi"]'])).toEqual({ code: 0, stdout: 'null\n', stderr: '' })
  })
})

describe('cmesh deploy', () => {
  test('compiles, deploys and names the functions; a module is deployed as it is', async () => {
    const deployed = await home.json('deploy', 'contracts/counter/index.ts') as { address: string, name: string, functions: { name: string }[] }
    expect(deployed).toMatchObject({ name: 'counter', address: expect.stringMatching(/^0x[0-9a-f]{64}$/), codeHash: expect.stringMatching(HEX) })
    expect(deployed.functions.length).toBeGreaterThan(0)
    const module = await home.json('deploy', 'dist/contracts/counter.wasm', '--name', 'counter2') as { address: string, codeHash: string }
    expect(module.codeHash).toBe((deployed as unknown as { codeHash: string }).codeHash)
    expect(module.address).not.toBe(deployed.address)
  })

  test('what does not compile is refused with the compiler\'s words', async () => {
    const file = join(home.directory, 'wrong.ts')
    await writeFile(file, 'export function f(): u64 { return "x" }\n')
    const { code, stderr } = await home.run(['deploy', file])
    expect(code).toBe(1)
    expect(stderr).toMatch(/^error CMESH_CLIENT_COMPILE: The contract .*wrong\.ts does not compile: /m)
  })

  test('somebody else than the operator is refused with a hint', async () => {
    const { code, stderr } = await home.run(['deploy', 'dist/contracts/counter.wasm', '--identity', 'stranger'])
    expect(code).toBe(1)
    expect(stderr).toMatch(/^error CMESH_IAM_DENIED: [^\n]+\nhint /m)
  })
})

describe('cmesh events', () => {
  test('what is published is tailed, read and listed', async () => {
    const tail = home.start(['events', 'tail', 'cli.news', '--count', '2', '--json'])
    await until('it listens', async () => {
      await home.json('events', 'publish', 'cli.news', 'first')
      return tail.stdout !== ''
    })
    await home.run(['events', 'publish', 'cli.news', '--file', '-'], 'from stdin')
    const { code, stdout } = await tail.result
    expect(code).toBe(0)
    const events = stdout.trimEnd().split('\n').map((line) => JSON.parse(line) as { channel: string, data: string })
    expect(events).toHaveLength(2)
    expect(events[0]).toMatchObject({ channel: 'cli.news', data: 'first', seq: expect.any(Number), timeMs: expect.any(Number) })
    expect(await home.json('events', 'read', 'cli.news')).toMatchObject({ data: 'from stdin' })
    expect((await home.json('events', 'range', 'cli.news', '--limit', '1') as unknown[])).toHaveLength(1)
    expect((await home.run(['events', 'read', 'cli.nothing'])).code).toBe(1)
  })

  test('a tail ends with 130 when it is interrupted', async () => {
    const tail = home.start(['events', 'tail', 'cli.quiet', '--json'])
    await until('it listens', async () => {
      await home.json('events', 'publish', 'cli.quiet', 'x')
      return tail.stdout !== ''
    })
    tail.child.kill('SIGINT')
    expect((await tail.result).code).toBe(130)
  })
})

describe('cmesh spam', () => {
  test('measures the mesh beside bare NATS and leaves no process behind', async () => {
    await home.json('register', 'helloWorldExample.mcom', '0xS:0x001:hello_world')
    const report = await home.json('spam', '--count', '1000', '--warm-up', '100', '--rounds', '2') as Record<string, number>
    expect(report).toEqual({
      requests: 1_000, ok: 1_000, failed: 0, failures: {}, hashes: 1_000, perSecond: expect.any(Number), rawPerSecond: expect.any(Number),
      ratio: expect.any(Number), p50Ms: expect.any(Number), p99Ms: expect.any(Number), maxMs: expect.any(Number),
      concurrency: 256, batch: 1, coalesce: true, rounds: 2, interrupted: false,
    })
    expect((await readdir(home.directory)).filter((name) => name.startsWith('cmesh-raw-'))).toEqual([])
  })

  test('in batches, without final hashes, the mesh alone', async () => {
    expect(await home.json('spam', '--count', '1000', '--batch', '100', '--receipt', 'none', '--no-raw', '--warm-up', '0')).toMatchObject({
      requests: 1_000, ok: 1_000, hashes: 0, rawPerSecond: null, ratio: null, batch: 100, concurrency: 8,
    })
  })

  test('writes a log of what it sent and asks it again; failures end with 1', async () => {
    const log = join(home.directory, 'requests.log')
    const args = ['spam', '--no-raw', '--warm-up', '0', '--count', '20', '--json']
    const first = await home.run([...args, '--mix', '0xS:0x001:hello_world', '0xR:nobody.mcom', '--write-log', log])
    expect([first.code, JSON.parse(first.stdout)]).toMatchObject([1, { ok: 10, failed: 10, failures: { CMESH_REGISTRAR_NOT_FOUND: 10 } }])
    const lines = (await readFile(log, 'utf8')).trimEnd().split('\n')
    expect(lines).toHaveLength(20)
    for (const line of lines) expect(line).toMatch(/^[0-9a-f]{32};0x[SR]:/)
    const again = await home.run([...args, '--log', log])
    expect(JSON.parse(again.stdout)).toMatchObject({ ok: 10, failed: 10 })
  })
})
