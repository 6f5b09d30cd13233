/**
 * `cmesh mesh`: the keys and certificates that make nodes members of a mesh. It works on files of this machine, talks to no mesh, and prints no
 * secret.
 */
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { Command } from 'commander'
import { CMeshError } from '../../../cmtp/errors.ts'
import { formatCertificate, issueCertificate, parseCertificate, type Certificate } from '../../../cmtp/identity/certificate.ts'
import type { KeyPair } from '../../../cmtp/identity/keys.ts'
import { defaultDataDir } from '../../descriptor.ts'
import { keptKeyFile, readKeyFile } from '../../key-file.ts'
import { usage } from '../../options.ts'
import { didFrom, examples, fields, printResult, refuseIdle, withJson, type JsonOption } from '../command.ts'
import type { Terminal } from '../terminal.ts'

interface DataOptions extends JsonOption {
  readonly data?: string
}

interface KeyOptions extends DataOptions {
  readonly key?: string
}

interface CertifyOptions extends KeyOptions {
  readonly out?: string
}

/** Names in a data directory: of a node, and of a cluster that `cmesh up --nodes` made. */
const NODE_KEY = 'node.key'
const CERTIFICATE = 'certificate'
const MESH_KEY = path.join('cluster', 'mesh', 'mesh.key')

export function mesh(program: Command, terminal: Terminal): void {
  const group = program.command('mesh').description('make nodes members of a mesh')
    .addHelpText('after', examples(
      ['cmesh mesh init --data ./second', 'on the machine of the new node: its key, which names it'],
      ['cmesh mesh certify did:key:z6Mk… --out certificate', 'on the machine of the first node: its certificate'],
    ))
    .addHelpText('after', '\ndocs/cluster.md goes through it.')
  const withData = (command: Command): Command => withJson(command)
    .option('--data <dir>', 'data directory of a node or a cluster (default: CMESH_DATA_DIR, else ~/.local/share/cmesh)')
  const dirOf = ({ data }: DataOptions): string => path.resolve(data ?? defaultDataDir(terminal.env))

  withData(group.command('did').description('say who the mesh and the nodes of a data directory are'))
    .addHelpText('after', examples(['cmesh mesh did', 'the mesh\'s DID is what clients know it by']))
    .action(async (options: DataOptions) => {
      const dir = dirOf(options)
      const nodes = await nodesIn(dir)
      const own = await readKeyFile(path.join(dir, MESH_KEY))
      const did = own?.did ?? nodes.find(node => node.mesh !== undefined)?.mesh ?? nodes[0]?.did
      if (did === undefined) throw usage(`${dir} holds no mesh; \`cmesh up\` makes one there, \`cmesh mesh init\` the key of a node.`)
      printResult(terminal, options, { mesh: did, nodes }, () => fields(terminal, [['mesh', did], ...nodes.map(node => [node.name, node.did] as const)]))
    })

  withData(group.command('init').description('make the key of a node before its first start, so that it can be certified'))
    .option('--key <file>', 'certify it by the mesh\'s key in this file, which is made where there is none')
    .addHelpText('after', examples(
      ['cmesh mesh init --data ./second', 'prints the DID that the mesh is to certify'],
      ['cmesh mesh init --data ./first --key ~/mesh.key', 'a mesh whose key is no node\'s, and its first node'],
    ))
    .action(async (options: KeyOptions) => {
      const dir = dirOf(options)
      const node = await keptKeyFile(path.join(dir, NODE_KEY))
      const file = path.join(dir, CERTIFICATE)
      const held = await certificateIn(file)
      if (options.key === undefined) {
        printResult(terminal, options, { node: node.did }, () => fields(terminal, [['node', node.did], ['next', `cmesh mesh certify ${node.did}`]]))
        return
      }
      const place = path.resolve(options.key)
      if (held !== undefined && held.mesh !== (await readKeyFile(place))?.did) throw usage(`${file} is of the mesh ${held.mesh}; a node has one mesh.`)
      const key = await keptKeyFile(place)
      if (held === undefined) await write(file, certify(node.did, key))
      printResult(terminal, options, { node: node.did, mesh: key.did, certificate: file }, () => fields(terminal, [
        ['node', node.did], ['mesh', key.did], ['certificate', file], ['next', `cmesh up --data ${dir} --set mesh.certificate=${file} …`],
      ]))
    })

  withData(group.command('certify').description('certify a node: with the certificate it may join the mesh'))
    .argument('<did>', 'of the node, as `cmesh mesh init` or `cmesh mesh did` names it there', didFrom)
    .option('--key <file>', 'the mesh\'s key (default: that of the data directory; for a mesh born on one node that node\'s own)')
    .option('--out <file>', 'where the certificate goes (default: stdout)')
    .addHelpText('after', examples(
      ['cmesh mesh certify did:key:z6Mk…', 'prints it'],
      ['cmesh mesh certify did:key:z6Mk… --key ~/mesh.key --out certificate', 'by a key that is kept elsewhere'],
    ))
    .addHelpText('after', '\nA certificate is no secret, and does not end: a node that is to leave is taken out of the mesh by its operator.')
    .action(async (did: string, options: CertifyOptions, command: Command) => {
      if (options.key !== undefined) refuseIdle(command, ['data'], '--key is the key that certifies.')
      const certificate = certify(did, await meshKey(dirOf(options), options.key))
      if (options.out !== undefined) await write(path.resolve(options.out), certificate)
      const text = formatCertificate(certificate)
      printResult(terminal, options, { mesh: certificate.mesh, node: did, issued: certificate.issued, certificate: text }, () => (options.out === undefined
        ? [text]
        : fields(terminal, [['mesh', certificate.mesh], ['node', did], ['written', path.resolve(options.out)]])))
    })
}

function certify(did: string, key: KeyPair): Certificate {
  return issueCertificate(did, key, Date.now())
}

/** The key that certifies. A node that was certified itself has none that counts. */
async function meshKey(dir: string, file: string | undefined): Promise<KeyPair> {
  const places = file === undefined ? [path.join(dir, MESH_KEY), path.join(dir, NODE_KEY)] : [path.resolve(file)]
  for (const place of places) {
    const key = await readKeyFile(place)
    if (key === undefined) continue
    const held = place.endsWith(NODE_KEY) ? await certificateIn(path.join(path.dirname(place), CERTIFICATE)) : undefined
    if (held !== undefined && held.mesh !== key.did) throw usage(`${place} is the key of a node of the mesh ${held.mesh}, whose own key certifies: give it by --key.`)
    return key
  }
  throw usage(`There is no key in ${places.join(' or ')}.`)
}

interface NodeIn {
  readonly name: string
  readonly did: string
  /** Absent for one without a certificate. */
  readonly mesh?: string
}

async function nodesIn(dir: string): Promise<readonly NodeIn[]> {
  const found: NodeIn[] = []
  for (const [name, place] of [['node', dir], ...[1, 2, 3, 4, 5].map(i => [`node-${i}`, path.join(dir, 'cluster', `node-${i}`)])] as [string, string][]) {
    const key = await readKeyFile(path.join(place, NODE_KEY))
    if (key === undefined) continue
    const certificate = await certificateIn(path.join(place, CERTIFICATE))
    found.push({ name, did: key.did, ...(certificate?.node === key.did && { mesh: certificate.mesh }) })
  }
  return found
}

async function certificateIn(file: string): Promise<Certificate | undefined> {
  try {
    return parseCertificate(await readFile(file, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Never over another file. */
async function write(file: string, certificate: Certificate): Promise<void> {
  try {
    await writeFile(file, `${formatCertificate(certificate)}\n`, { mode: 0o644, flag: 'wx' })
  } catch (cause) {
    const reason = `${file} cannot be written (${String((cause as NodeJS.ErrnoException).code)})`
    throw new CMeshError('CMESH_CLIENT_USAGE', { reason }, { cause })
  }
}
