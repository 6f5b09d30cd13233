/**
 * The package as its user gets it: packed, installed into an empty project, imported from JavaScript and from TypeScript, run as a
 * command. What it holds is looked at too: every path that package.json names, nothing that only this repository needs.
 */
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { Findings, root, run } from './check.mjs'

const findings = new Findings()
const scratch = await mkdtemp(path.join(os.tmpdir(), 'cmesh-package-'))
const project = path.join(scratch, 'project')
/** An installed package must not find this machine's meshes and identities. */
const env = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(?:CMESH_|npm_(?!config_))/.test(name))),
  CMESH_DATA_DIR: path.join(scratch, 'data'), CMESH_CONFIG_DIR: path.join(scratch, 'config'),
}

try {
  const manifest = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8'))
  const { output } = await run('npm', ['pack', '--json', '--pack-destination', scratch])
  const [packed] = JSON.parse(output)
  const files = /** @type {string[]} */ (packed.files.map((/** @type {{ path: string }} */ file) => file.path))
  checkFiles(manifest, files)

  await mkdir(project)
  await writeFile(path.join(project, 'package.json'), JSON.stringify({ name: 'consumer', version: '1.0.0', private: true, type: 'module' }))
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error', path.join(scratch, packed.filename)], { cwd: project, env })
  await checkContent(path.join(project, 'node_modules', manifest.name), files)
  await checkImports()
  await checkTypes()
  await checkCommand(manifest)
  await checkContract()
  findings.conclude(`${manifest.name} ${manifest.version}: ${files.length} files, ${Math.round(packed.size / 1_024)} KiB packed; installs, imports, compiles and runs`)
} finally {
  await rm(scratch, { recursive: true, force: true })
}

/**
 * @param {any} manifest
 * @param {readonly string[]} files
 */
function checkFiles(manifest, files) {
  const named = [...Object.values(manifest.bin), ...Object.values(manifest.exports).flatMap((entry) => (typeof entry === 'string' ? [entry] : Object.values(entry)))]
  for (const file of named.map((/** @type {string} */ place) => path.posix.normalize(place))) findings.expect(files.includes(file), `package.json names ${file}, which is not in the package`)
  for (const entry of manifest.files.filter((/** @type {string} */ entry) => !entry.startsWith('!'))) {
    findings.expect(files.some((file) => file === entry || file.startsWith(`${entry}/`)), `package.json lists ${entry} in files, and nothing of it is in the package`)
  }
  for (const file of files) {
    findings.expect(!/^(?:dist\/)?(?:test|bench|\.ci)\//.test(file), `${file} is in the package and only this repository needs it`)
    findings.expect(!/(?:^|\/)\.(?!npmignore)/.test(file), `${file} is in the package and hidden`)
    findings.expect(!/^(?:cmtp|services|providers|node|client)\/.*\.ts$/.test(file), `${file} is in the package and a source`)
  }
}

/**
 * @param {string} place
 * @param {readonly string[]} files
 */
async function checkContent(place, files) {
  for (const file of files) {
    const text = await readFile(path.join(place, file), 'latin1')
    findings.expect(!text.includes(root.replace(/\/$/, '')), `${file} in the package names the directory of this clone`)
    findings.expect(!/\bregistry\.npmjs\.org\b/.test(text), `${file} in the package names a registry's host`)
  }
}

async function checkImports() {
  await writeFile(path.join(project, 'use.js'), `
    import { CMeshError, KeyPair, connect } from 'cmesh'
    import { LIMITS, formatFqmn, parseFqmn } from 'cmesh/cmtp'
    import { Sandbox } from 'cmesh/testing'
    import manifest from 'cmesh/package.json' with { type: 'json' }
    const route = parseFqmn('0xS:0x001:hello_world:["Dexter"]')
    if (formatFqmn(route) !== '0xS:0x001:hello_world:["Dexter"]' || LIMITS.fqmnBytes !== 4096) throw new Error('cmesh/cmtp does not work')
    const counter = new Sandbox().deploy('node_modules/cmesh/dist/contracts/counter.wasm', { init: [41] })
    if (counter.call('increment').value !== 42) throw new Error('cmesh/testing does not work')
    try { await connect({ url: 'nats://127.0.0.1:1', identity: KeyPair.generate(), connectTimeoutMs: 1000 }); throw new Error('there is a mesh on port 1') }
    catch (error) { if (!(error instanceof CMeshError) || error.code !== 'CMESH_CLIENT_NO_MESH') throw error }
    console.log(manifest.version)
  `)
  await run(process.execPath, ['--disable-warning=ExperimentalWarning', 'use.js'], { cwd: project, env })
}

/** Types are checked whole, those of the package's own dependencies too, with the compiler and the Node.js types of this repository. */
async function checkTypes() {
  await mkdir(path.join(project, 'node_modules', '@types'), { recursive: true })
  await symlink(path.join(root, 'node_modules', '@types', 'node'), path.join(project, 'node_modules', '@types', 'node')).catch(() => undefined)
  await symlink(path.join(root, 'node_modules', 'undici-types'), path.join(project, 'node_modules', 'undici-types')).catch(() => undefined)
  await writeFile(path.join(project, 'tsconfig.json'), JSON.stringify({
    compilerOptions: { module: 'NodeNext', target: 'ES2023', strict: true, exactOptionalPropertyTypes: true, noEmit: true, skipLibCheck: false, types: ['node'] },
    files: ['use.ts'],
  }))
  await writeFile(path.join(project, 'use.ts'), `
    import { connect, type CallOptions, type MeshClient, type Reply } from 'cmesh'
    import { parseFqmn, type Route } from 'cmesh/cmtp'
    import { Sandbox, type CallResult, type SandboxContract } from 'cmesh/testing'
    export function count(code: Uint8Array): number {
      const sandbox = new Sandbox({ timeMs: 0 })
      const contract: SandboxContract = sandbox.deploy(code, { init: [1n, sandbox.identity('alice')] })
      const result: CallResult<number> = contract.attempt<number>('increment', [1], { as: sandbox.identity('bob'), gas: 100_000 })
      return result.ok ? result.value : result.gas
    }
    // @ts-expect-error -- a contract is not called without a function
    new Sandbox().at('0x002').call()
    export async function greet(who: string): Promise<string> {
      const client: MeshClient = await connect({ timeoutMs: 1_000 })
      const options: CallOptions = { args: [who] }
      const reply: Reply = await client.call('0xS:0x001:hello_world', options)
      const route: Route = parseFqmn('0xS:0x001')
      await client.close()
      return reply.json<string>() + route.service
    }
    // @ts-expect-error -- an address is a text
    void connect().then(client => client.call(1))
  `)
  const { status, output } = await run(process.execPath, [path.join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', '.'], { cwd: project, failing: true })
  findings.expect(status === 0, `the package's types do not hold:\n${output}`)
}

/**
 * A contract of the user's own, made and tested by the installed package. Its editor finds one thing it does not know: that
 * functions may have decorators.
 */
async function checkContract() {
  const cmesh = (/** @type {string[]} */ ...args) => run('npx', ['--no-install', 'cmesh', 'contract', ...args], { cwd: project, env, failing: true })
  const made = await cmesh('new', 'cheers')
  findings.expect(made.status === 0, `cmesh contract new ends with ${made.status}:\n${made.output}`)
  const { devDependencies } = JSON.parse(await readFile(path.join(project, 'cheers', 'package.json'), 'utf8'))
  findings.expect(/^\^\d+\.\d+\.\d+$/.test(devDependencies.cmesh), `a new contract depends on cmesh ${devDependencies.cmesh}`)
  const tested = await cmesh('test', 'cheers')
  findings.expect(tested.status === 0, `cmesh contract test ends with ${tested.status}:\n${tested.output}`)
  const { output } = await run(process.execPath, [path.join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'cheers'], { cwd: project, failing: true })
  const complaints = output.split('\n').filter((line) => line.startsWith('cheers/') && !line.includes('TS1206'))
  findings.expect(complaints.length === 0, `an editor complains of a new contract:\n${complaints.join('\n')}`)
}

/** @param {any} manifest */
async function checkCommand(manifest) {
  const [name = ''] = Object.keys(manifest.bin)
  const version = await run('npx', ['--no-install', name, '--version'], { cwd: project, env })
  findings.expect(version.output.trim() === manifest.version, `${name} --version says ${version.output}`)
  const help = await run('npx', ['--no-install', name, '--help'], { cwd: project, env })
  findings.expect(/^Usage: cmesh /m.test(help.output), `${name} --help says ${help.output}`)
  const { status } = await run('npx', ['--no-install', name, 'no-such-command'], { cwd: project, env, failing: true })
  findings.expect(status === 2, `${name} ends with ${status} for a command that does not exist`)
}
