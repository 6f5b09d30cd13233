/** `cmesh completion`: prints a script that lets a shell complete commands and options. It is made from the commands themselves. */
import { Argument, type Command } from 'commander'
import { examples } from '../command.ts'
import type { Terminal } from '../terminal.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const

/** One command as a shell needs to know it. */
interface Completable {
  /** The words that lead to it: empty for `cmesh` itself. */
  readonly path: readonly string[]
  readonly words: readonly { readonly word: string, readonly says: string }[]
}

export function completion(program: Command, terminal: Terminal): void {
  program.command('completion').description('print a completion script for your shell')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .addHelpText('after', examples(
      ['source <(cmesh completion bash)', 'bash, for this session'],
      ['cmesh completion zsh > "${fpath[1]}/_cmesh"', 'zsh, for good'],
      ['cmesh completion fish > ~/.config/fish/completions/cmesh.fish', 'fish, for good'],
    ))
    .action((shell: (typeof SHELLS)[number]) => {
      const commands = completables(program, [])
      for (const line of { bash, zsh, fish }[shell](commands)) terminal.print(line)
    })
}

function completables(command: Command, path: readonly string[]): Completable[] {
  const help = command.createHelp()
  const children = help.visibleCommands(command).filter((child) => child.name() !== 'help')
  const options = help.visibleOptions(command).map((option) => ({ word: option.long ?? option.short ?? '', says: option.description }))
  const own = { path, words: [...children.map((child) => ({ word: child.name(), says: child.description() })), ...options] }
  return [own, ...children.flatMap((child) => completables(child, [...path, child.name()]))]
}

/** The words typed so far, without options, choose what may follow. */
function bash(commands: readonly Completable[]): string[] {
  return [
    '# Completion of cmesh for bash. Use: source <(cmesh completion bash)',
    '_cmesh() {',
    '  local current="${COMP_WORDS[COMP_CWORD]}" path="" word i',
    '  for ((i = 1; i < COMP_CWORD; i++)); do',
    '    word="${COMP_WORDS[i]}"',
    '    case "$path $word" in',
    ...commands.filter(({ path }) => path.length > 0).map(({ path }) => `      " ${path.join(' ')}") path=" ${path.join(' ')}" ;;`),
    '    esac',
    '  done',
    '  case "$path" in',
    ...commands.map(({ path, words }) => `    "${path.map((word) => ` ${word}`).join('')}") COMPREPLY=($(compgen -W "${words.map(({ word }) => word).join(' ')}" -- "$current")) ;;`),
    '  esac',
    '  [[ ${#COMPREPLY[@]} -eq 0 ]] && COMPREPLY=($(compgen -f -- "$current"))',
    '  return 0',
    '}',
    'complete -o filenames -F _cmesh cmesh',
  ]
}

function zsh(commands: readonly Completable[]): string[] {
  const quoted = (text: string): string => `'${text.replaceAll('\'', '\'\\\'\'').replaceAll(':', '\\:')}'`
  return [
    '#compdef cmesh',
    '_cmesh() {',
    '  local command_path="" word',
    '  local -a candidates',
    '  for word in "${(@)words[2,CURRENT-1]}"; do',
    '    case "$command_path $word" in',
    ...commands.filter(({ path }) => path.length > 0).map(({ path }) => `      " ${path.join(' ')}") command_path=" ${path.join(' ')}" ;;`),
    '    esac',
    '  done',
    '  case "$command_path" in',
    ...commands.map(({ path, words }) => `    "${path.map((word) => ` ${word}`).join('')}") candidates=(${words.map(({ word, says }) => quoted(`${word}\u0000${says}`).replace('\u0000', '\':\'')).join(' ')}) ;;`),
    '  esac',
    '  _describe -o cmesh candidates',
    '  _files',
    '}',
    'compdef _cmesh cmesh',
  ]
}

function fish(commands: readonly Completable[]): string[] {
  const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll('\'', '\\\'')}'`
  const condition = (path: readonly string[]): string => (path.length === 0
    ? '__fish_use_subcommand'
    : path.map((word) => `__fish_seen_subcommand_from ${word}`).join('; and '))
  return commands.flatMap(({ path, words }) => words.map(({ word, says }) => {
    const what = word.startsWith('--') ? `-l ${word.slice(2)}` : word.startsWith('-') ? `-s ${word.slice(1)}` : `-f -a ${word}`
    return `complete -c cmesh -n ${quoted(condition(path))} ${what} -d ${quoted(says)}`
  }))
}
