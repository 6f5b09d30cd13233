/** The figures of `docs/faults.md`: what the results of one seed add up to, as the tables of the page. It measures nothing. */
import { readFile, rename, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { locateNatsServer } from '../../../node/broker/locate.ts'
import { ROOT } from '../../support/sources.ts'
import { DRILLS } from './drills.ts'
import { FAULTS } from './ledger.ts'
import { ENOUGH, type ResultLine } from './results.ts'

const PAGE = path.join(ROOT, 'docs', 'faults.md')
const BEGIN = '<!-- figures: written by the long form -->'
const END = '<!-- end of figures -->'

/** Where and of what the results are. */
export interface Setting {
  readonly seed: number
  readonly machine: string
  readonly broker: string
  readonly day: string
}

export async function settingNow(seed: number): Promise<Setting> {
  const cpus = os.cpus()
  const { version } = await locateNatsServer({ obtain: false })
  const machine = `${cpus.length} × ${cpus[0]?.model ?? 'a processor'}, ${Math.round(os.totalmem() / 1_024 ** 3)} GiB, Node.js ${process.version.slice(1)}`
  return { seed, machine, broker: `nats-server ${version.join('.')}`, day: new Date().toISOString().slice(0, 10) }
}

export function figures(lines: readonly ResultLine[], { seed, machine, broker, day }: Setting): string {
  const rounds = lines.flatMap(line => (line.kind === 'round' ? [line.result] : []))
  const storage = lines.flatMap(line => (line.kind === 'storage' ? [line.result] : []))
  const finished = lines.flatMap(line => (line.kind === 'finished' ? [line.result] : []))
  const failed = lines.flatMap(line => (line.kind === 'failed' ? [line.result] : []))
  const sum = (of: (round: (typeof rounds)[number]) => number): number => rounds.reduce((total, round) => total + of(round), 0)
  const faults = [...rounds.flatMap(each => each.faults), ...finished.flatMap(each => each.faults)]
  const writes = (kind: string): number => new Set(rounds.flatMap(({ round, faults: of }) => of.filter(fault => fault.kind === kind).map(({ number }) => `${round} ${number}`))).size
  const verdicts = rounds.flatMap(each => each.verdicts)
  const count = (verdict: string): number => verdicts.filter(each => each === verdict).length
  const rows = (pairs: readonly (readonly [string, string | number])[]): string => pairs.map(([what, much]) => `| ${what} | ${typeof much === 'number' ? much.toLocaleString('en') : much} |`).join('\n')
  const drill = (name: string): number => sum(({ drills }) => drills[name] ?? 0)
  const damage = (kind: string): string[] => ['prefix', 'whole', 'refused'].map(outcome => storage.reduce((total, { met }) => total + (met[`${kind} ${outcome}`] ?? 0), 0).toLocaleString('en'))
  const ended = rounds.flatMap(each => each.ended).map(how => how.match(/CMESH_[A-Z_]+/g)?.at(-1) ?? how.replace(/^\S+ /, ''))
  const byHow = [...new Set(ended)].sort().map(how => `${how} ${ended.filter(each => each === how).length}`)
  const done: readonly (readonly [string, number, number])[] = [
    ['processes killed', sum(({ tally }) => tally.kills), ENOUGH.kills], ['leaders killed', sum(({ tally }) => tally.leaderKills), ENOUGH.leaderKills],
    ['pauses and cut links', sum(({ tally }) => tally.pauses + tally.cuts), ENOUGH.holds], ['drills on logs', storage.reduce((total, { drills }) => total + drills, 0), ENOUGH.logs],
  ]
  const short = done.filter(([, is, wanted]) => is < wanted).map(([what, is, wanted]) => `${is.toLocaleString('en')} of ${wanted.toLocaleString('en')} ${what}`)
  return `${BEGIN}
Seed ${seed}, ${day}, ${machine}, ${broker}. Rerun it by \`FAULTS_SEED=${seed} npm run test:faults -- --long\`.
${short.length === 0 ? '' : `\n**It was ended before it had done all that it goes on to:** ${short.join(', ')}.\n`}
| the cluster | |
| --- | ---: |
${rows([
    ['rounds', rounds.length], ['clusters they were done to, ended and verified whole', finished.length], ['rounds that did not come to their end', failed.length],
    ['time, minutes', Math.round(sum(({ seconds }) => seconds) / 60)],
    ['processes killed', sum(({ tally }) => tally.kills)], ['of them leaders of the stream', sum(({ tally }) => tally.leaderKills)],
    ['pauses and cut links', sum(({ tally }) => tally.pauses + tally.cuts)], ['leaders made to step down', sum(({ tally }) => tally.stepdowns)],
    ['drained and started again', sum(({ tally }) => tally.drains)], ['limits set that stand for a full disk', sum(({ tally }) => tally.fullDisks)],
    ['writes asked for', sum(({ asked }) => asked)], ['acknowledged', sum(({ acknowledged }) => acknowledged)],
    ['refused for sure', sum(({ refused }) => refused)], ['of unknown outcome', sum(({ unknown }) => unknown)],
    ...FAULTS.map((kind): readonly [string, number] => [FAULT_NAMES[kind], writes(kind)]),
    ['histories checked', verdicts.length], ['operations in them', sum(({ operations }) => operations)], ['linearizable', count('linearizable')],
    ['not', count('impossible')], ['not decided', count('undecided')], ['stale views of a session', sum(({ stale }) => stale.length)],
    ['processes that ended by themselves', byHow.length === 0 ? 'none' : byHow.join(', ')],
  ])}

| drill | times |
| --- | ---: |
${rows([...DRILLS.map(({ name }) => [`\`${name}\``, drill(name)] as const), ['`rolling-restart`', drill('rolling-restart')]])}

| damage to a log | an exact prefix | nothing lost | refused by a code |
| --- | ---: | ---: | ---: |
${['torn', 'zeroed', 'flipped', 'removed'].map(kind => `| ${kind} | ${damage(kind).join(' | ')} |`).join('\n')}

${storage.reduce((total, { drills }) => total + drills, 0).toLocaleString('en')} drills on logs in all, of them ${storage.reduce((total, { met }) => total + (met['failed'] ?? 0), 0).toLocaleString('en')} failed writes; found wrong: ${storage.reduce((total, { wrong }) => total + wrong.length, 0)}.
${faults.length === 0 && failed.length === 0 ? '' : `\n${saidOf(faults, failed)}\n`}${END}`
}

const FAULT_NAMES: Readonly<Record<(typeof FAULTS)[number], string>> = {
  lost: 'acknowledged and lost', duplicated: 'done twice', moved: 'at another place than was said', altered: 'with another content or answer',
  foreign: 'that nobody asked for', refused: 'done though an error said that nothing was',
}

function saidOf(faults: readonly unknown[], failed: readonly { readonly round: number, readonly says: string }[]): string {
  const said = [...faults.map(fault => JSON.stringify(fault)), ...failed.map(({ round, says }) => `round ${round}: ${says}`)]
  return `Found:\n\n\`\`\`\n${said.slice(0, 20).join('\n')}${said.length > 20 ? `\n… ${said.length - 20} more` : ''}\n\`\`\``
}

/** Puts the figures in their place on the page. */
export async function writeReport(lines: readonly ResultLine[], setting: Setting, page = PAGE): Promise<void> {
  const text = await readFile(page, 'utf8')
  const [from, to] = [text.indexOf(BEGIN), text.indexOf(END)]
  if (from < 0 || to < from) throw new Error(`${page} has no place for figures`)
  await writeFile(`${page}.new`, `${text.slice(0, from)}${figures(lines, setting)}${text.slice(to + END.length)}`)
  await rename(`${page}.new`, page)
}
