/** Every relative link of every page leads to a file of the project, and its anchor to a heading of that page; no page of docs stands alone. */
import path from 'node:path'
import { Findings, pages, projectFiles } from './check.mjs'

const LINK = /\[(?:[^\]\\]|\\.)*\]\(([^()\s]+(?:\([^()]*\))?[^()\s]*)(?:\s+"[^"]*")?\)/g

const findings = new Findings()
const files = new Set(await projectFiles())
const all = await pages()
const anchors = new Map(all.map(({ file, prose }) => [file, anchorsOf(prose)]))
/** Pages that another one leads to. */
const reached = new Set()
let links = 0

for (const { file, prose } of all) {
  for (const [, link = ''] of prose.replace(/`[^`\n]*`/g, '').matchAll(LINK)) {
    if (/^[a-z]+:/.test(link)) continue
    links++
    const [place = '', anchor] = link.split('#')
    const target = place === '' ? file : path.posix.normalize(path.posix.join(path.posix.dirname(file), decodeURI(place)))
    if (target !== file) reached.add(target)
    const isThere = files.has(target) || [...files].some((known) => known.startsWith(target.replace(/\/?$/, '/')))
    findings.expect(isThere, `${file}: ${link} leads to no file`)
    if (isThere && anchor !== undefined) findings.expect(anchors.get(target)?.has(anchor) === true, `${file}: ${link} leads to no heading`)
  }
}
for (const { file } of all) findings.expect(!file.startsWith('docs/') || reached.has(file), `no page leads to ${file}`)
findings.conclude(`${links} links in ${all.length} pages lead somewhere`)

/**
 * The anchors that a renderer gives the headings: lower case, punctuation gone, spaces as hyphens, repeats numbered.
 *
 * @param {string} prose
 */
function anchorsOf(prose) {
  const found = new Set()
  for (const [, heading = ''] of prose.matchAll(/^#{1,6}\s+(.*?)\s*#*$/gm)) {
    const plain = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/[`*]/g, '')
    const base = plain.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, '').replace(/\s/g, '-')
    let anchor = base
    for (let i = 1; found.has(anchor); i++) anchor = `${base}-${i}`
    found.add(anchor)
  }
  return found
}
