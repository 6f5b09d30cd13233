/**
 * What belongs to no commit: paths of one machine, hosts of package registries, generated files, secrets. And, where the
 * tree was clean to begin with, that building and testing left it so.
 */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { Findings, projectFiles, root, run } from './check.mjs'

/** Tests may hold keys: those they make up to be refused. */
const SECRETS = [
  [/-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----/, 'a private key'],
  [/\bS[AOUNC][A-Z2-7]{56}\b/, 'an nkey seed'],
  [/\bnpm_[A-Za-z0-9]{36}\b/, 'an npm token'],
  [/\bgh[pousr]_[A-Za-z0-9]{36}\b/, 'a GitHub token'],
]
const GENERATED = /(?:^|\/)(?:node_modules|dist|coverage)\/|\.(?:tsbuildinfo|tgz|log|cpuprofile)$/
const REGISTRY = /\bregistry\.(?:npmjs\.org|yarnpkg\.com|npmmirror\.com)\b/
/** Places of a user or of a mount; those of every Debian system are no secret of anybody's machine. */
const MACHINE = /(?<![\w.~}])\/(?:home|root|Users|work|mnt)\/[\w.-]+/

const findings = new Findings()
const files = await projectFiles()
for (const file of files) {
  findings.expect(!GENERATED.test(file), `${file} is generated`)
  const bytes = await readFile(path.join(root, file))
  if (bytes.includes(0)) continue
  const text = bytes.toString()
  for (const [secret, what] of /** @type {[RegExp, string][]} */ (file.startsWith('test/') ? [] : SECRETS)) findings.expect(!secret.test(text), `${file} holds ${what}`)
  findings.expect(!REGISTRY.test(text) || file === '.ci/tree.mjs', `${file} names a registry's host`)
  const place = MACHINE.exec(text)?.[0]
  findings.expect(place === undefined, `${file} names ${place}, a path of one machine`)
  findings.expect(!text.includes(root.replace(/\/$/, '')) || root.length < 6, `${file} names the directory of this clone`)
}
if (process.env['TREE_WAS_CLEAN'] === '1') {
  const { output } = await run('git', ['status', '--porcelain'])
  findings.expect(output === '', `building and testing changed the tree:\n${output}`)
}
findings.conclude(`${files.length} files hold nothing of one machine`)
