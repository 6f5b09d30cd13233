/**
 * The README's commands are run, in order, in one shell, as its reader would: from the clone, with a home of their own, and
 * with the output that the README shows. DIDs, hashes, times, ports, sequences and widths of columns may differ; `…` stands for
 * whatever else does, within a line for any text, alone on a line for any lines.
 *
 * A block of commands says in a comment before it how it is run: `<!-- run -->`, or `<!-- run, figures differ -->` where numbers
 * are measurements; `<!-- run until stopped -->` for one that stays, which goes on when its output has appeared and is ended by
 * Ctrl-C at the end; `<!-- not run: reason -->`. A block of JavaScript is run as a module of the clone; what it prints
 * stands in a block behind `<!-- printed -->`.
 */
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { Findings, pages, root, run } from './check.mjs'
import { clean, contains, equals } from './output.mjs'
import { COMMAND_MS, Shell } from './shell.mjs'

const BLOCK = /^(?:<!-- (run|run, figures differ|run until stopped|not run: [^\n]+) -->\n)?```(sh|console|js)\n([\s\S]*?)^```$(?:\n\n<!-- printed -->\n```\n([\s\S]*?)^```$)?/gm

const findings = new Findings()
const home = await mkdtemp(path.join(os.tmpdir(), 'cmesh-readme-'))
/** @type {(() => Promise<void>)[]} */
const undo = [() => rm(home, { recursive: true, force: true })]
let ran = 0

try {
  await checkNames()
  const shell = new Shell(home)
  undo.push(() => shell.close())
  const readme = await readFile(path.join(root, 'README.md'), 'utf8')
  for (const [, how, language, text = '', printed = ''] of readme.matchAll(BLOCK)) {
    if (how?.startsWith('not run')) continue
    const commands = language === 'js' ? [await programOf(text, printed)] : commandsOf(text)
    if (how === undefined || commands.length === 0) findings.add(`README.md: the block "${text.split('\n')[0]}" does not say whether it is run`)
    for (const { command, expected } of commands) {
      ran++
      process.stdout.write(`$ ${command}\n`)
      if (how === 'run until stopped') await stays(shell, command, expected)
      else await ends(shell, command, expected, how === 'run, figures differ')
    }
  }
} catch (error) {
  findings.add(error instanceof Error ? error.message : String(error))
} finally {
  for (const step of undo.reverse()) await step()
}
findings.conclude(`${ran} commands of the README do what it says`)

/** Commands that the pages name in passing exist. */
async function checkNames() {
  const { scripts } = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8'))
  const { output: help } = await run(process.execPath, ['dist/client/cli/main.js', '--help'])
  for (const { file, text } of await pages()) {
    for (const [, script = ''] of text.matchAll(/\bnpm run ([a-z:]+)/g)) findings.expect(script in scripts, `${file}: there is no script ${script}`)
    for (const [, command = ''] of text.matchAll(/(?:`|\$ )(?:npx )?cmesh ([a-z]+)/g)) {
      findings.expect(new RegExp(`^ +${command}\\b`, 'm').test(help), `${file}: cmesh has no command ${command}`)
    }
  }
}

/**
 * @param {Shell} shell
 * @param {string} command
 * @param {string} expected
 * @param {boolean} figuresDiffer
 */
async function ends(shell, command, expected, figuresDiffer) {
  const { output, status } = await shell.run(command)
  const fails = expected.startsWith('error ')
  findings.expect((status !== 0) === fails, `README.md: ${command}\nshould ${fails ? 'fail' : 'succeed'}, but ends with ${status}:\n${clean(output)}`)
  if (equals(expected, output, figuresDiffer)) return
  findings.add(`README.md: ${command}\nshould print:\n${expected}\nbut prints:\n${clean(output)}`)
}

/**
 * @param {Shell} shell
 * @param {string} command
 * @param {string} expected
 */
async function stays(shell, command, expected) {
  const { output: pid } = await shell.run(`{ ${command} ; } > ${home}/stays.log 2>&1 & echo $!`)
  const log = () => readFile(path.join(home, 'stays.log'), 'utf8').then(clean, () => '')
  const deadline = performance.now() + COMMAND_MS
  while (!contains(expected, await log())) {
    if (performance.now() > deadline) throw new Error(`README.md: ${command}\nshould print:\n${expected}\nbut prints:\n${await log()}`)
    await new Promise((resolve) => { setTimeout(resolve, 100) })
  }
  undo.push(async () => {
    // The shell runs it in a process group of its own, as a terminal does; Ctrl-C goes to the whole group.
    const { output } = await shell.run(`kill -INT -- -${pid.trim()}; wait ${pid.trim()}; echo ended with $?`)
    findings.expect(/ended with (?:0|130)$/m.test(output), `README.md: ${command}: Ctrl-C: ${output.trim()}\n${await log()}`)
    findings.expect(await isGone(path.join(home, '.local', 'share', 'cmesh', 'mesh.json')), `README.md: ${command}: Ctrl-C leaves a node running\n${await log()}`)
  })
}

/**
 * Whether the descriptor of a running node is removed, at the latest when a drain must be over.
 *
 * @param {string} descriptor
 */
async function isGone(descriptor) {
  const deadline = performance.now() + 20_000
  while (await access(descriptor).then(() => true, () => false)) {
    if (performance.now() > deadline) return false
    await new Promise((resolve) => { setTimeout(resolve, 50) })
  }
  return true
}

/**
 * Commands stand behind `$ `, their further lines behind `> `; what follows is their output.
 *
 * @param {string} text
 */
function commandsOf(text) {
  /** @type {{ command: string, expected: string }[]} */
  const commands = []
  for (const line of text.split('\n')) {
    const last = commands.at(-1)
    if (line.startsWith('$ ')) commands.push({ command: line.slice(2), expected: '' })
    else if (last !== undefined && line.startsWith('> ') && last.expected === '') last.command += `\n${line.slice(2)}`
    else if (last !== undefined) last.expected += `${line}\n`
  }
  return commands.map(({ command, expected }) => ({ command: command, expected: clean(expected) }))
}

/**
 * @param {string} text
 * @param {string} printed
 */
async function programOf(text, printed) {
  const file = path.join(home, 'program.mjs')
  await writeFile(file, text)
  // From standard input, so that it is of this package and finds it by its name.
  return { command: `node --input-type=module < ${file}`, expected: clean(printed) }
}
