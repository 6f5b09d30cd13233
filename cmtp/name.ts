/**
 * Mesh names: what may be one, its normal form, and the skeleton by which lookalikes are found. It knows no registered name
 * and decides nothing about owners; the Registrar does.
 *
 *     name   = label *( "." label ) ".mcom"
 *     label  = letters, marks, digits and inner hyphens; 1 to 63 bytes in normal form
 *
 * The normal form is ASCII: lower case, NFC and UTS #46 (non-transitional) with a label of other scripts as its `xn--`
 * spelling, because an address is ASCII and so is everything that hashes, signs or compares a name. A label is *highly
 * restrictive* in the sense of UTS #39 section 5.2: one script, or Latin with what Japanese, Chinese or Korean is written in.
 *
 * Invariants: `normaliseName(normaliseName(x)) === normaliseName(x)`; any text gives a normal form or `CMESH_NAME_INVALID`
 * with its reason. Which characters exist follows the Unicode tables of the running Node.js, so two nodes may disagree about
 * a name with characters that are new to one of them: what replicas must agree on is the normal form, never the text.
 */
import { domainToASCII, domainToUnicode } from 'node:url'
import { confusables } from './confusables.ts'
import { CMeshError } from './errors.ts'
import { LIMITS } from './limits.ts'

const SUFFIX = '.mcom'
/** The recommended scripts (UAX #31, table 5), by their ISO 15924 codes. */
const SCRIPTS = [
  'Arab', 'Armn', 'Beng', 'Bopo', 'Cyrl', 'Deva', 'Ethi', 'Geor', 'Grek', 'Gujr', 'Guru', 'Hang', 'Hani', 'Hebr', 'Hira',
  'Kana', 'Khmr', 'Knda', 'Laoo', 'Latn', 'Mlym', 'Mymr', 'Orya', 'Sinh', 'Taml', 'Telu', 'Thaa', 'Thai', 'Tibt',
]
const WRITING_SYSTEMS = [
  ['Latn', 'Hani', 'Hira', 'Kana'],
  ['Latn', 'Hani', 'Bopo'],
  ['Latn', 'Hani', 'Hang'],
  ...SCRIPTS.map(script => [script]),
]
/** Labels of one writing system, and of all of them. Compiled at the first name that is no plain ASCII: most processes see none. */
let scripts: { readonly systems: readonly RegExp[], readonly known: RegExp } | undefined

/** Reasons given in more than one place. */
const LDH = 'only letters, digits and hyphens may stand in a label'
const NO_IDN = 'it is not a valid internationalised name (UTS #46)'
const TOO_LONG = `it is longer than ${LIMITS.nameBytes} bytes`

const PLAIN = /^[a-z0-9.-]*$/
/** Drawn as nothing, as direction, or not at all; UTS #46 would drop some of them silently. */
const UNSEEN = /[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}]/u
const LETTERS = /^[\p{L}\p{M}\p{Nd}-]+$/u
/** Phonetic letters and clicks, which look like punctuation. */
const TECHNICAL = /(?=\p{Lm})[\u02b0-\u02ff\p{scx=Latn}\p{scx=Grek}\p{scx=Cyrl}]|[\u01c0-\u01c3]/u
/** Hangul that did not compose into syllables. */
const JAMO = /[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]/u
/** A dot above a letter that has one already cannot be seen. */
const HIDDEN_DOT = /[\p{Soft_Dotted}l]\p{M}*\u0307/u

/**
 * The normal form of a name: `helloWorld.mcom` gives `helloworld.mcom`, `bücher.mcom` gives `xn--bcher-kva.mcom`. Throws
 * `CMESH_NAME_INVALID` (400) with the reason.
 */
export function normaliseName(text: string): string {
  // Composition shortens a text less than fourfold, so nothing longer can end up legal.
  if (text.length > 4 * LIMITS.nameBytes) throw invalid(text, TOO_LONG)
  refuseUnseen(text, text)
  const lower = text.toLowerCase()
  const normal = PLAIN.test(lower) && !lower.includes('xn--') ? lower : toAscii(text)
  if (!isMeshName(normal)) throw invalid(text, 'it does not end in .mcom behind at least one label')
  if (normal.length > LIMITS.nameBytes) throw invalid(text, TOO_LONG)
  for (const label of normal.split('.')) checkLabel(text, label)
  return normal
}

/**
 * Whether a segment of an address claims to be a name: tells `helloWorld.mcom` from an action such as `resolve`. Cheap and
 * no more than that; whether it is a valid name, `normaliseName` says.
 */
export function isMeshName(segment: string): boolean {
  return segment.length > SUFFIX.length && segment.slice(-SUFFIX.length).toLowerCase() === SUFFIX
}

/**
 * What a name looks like (UTS #39 section 4): two different names with equal skeletons cannot be told apart by eye, and the
 * second is refused. `normal` is a normal form.
 *
 * ASCII stands for itself, so `app1` and `appl`, `c0rn` and `corn`, `rn` and `m` are different names: these pairs are within
 * one script, where a reader expects letters and digits to differ, fonts of terminals and editors set them apart, and folding
 * them would let one name block dozens of honest ones. What is folded is every other script, and Latin beyond ASCII.
 */
export function nameSkeleton(normal: string): string {
  if (!normal.includes('xn--')) return normal
  const prototypes = confusables()
  let skeleton = ''
  for (const character of domainToUnicode(normal).normalize('NFD')) skeleton += prototypes.get(character) ?? character
  return skeleton.normalize('NFD')
}

/** UTS #46 ToASCII. `domainToASCII` parses a host, so what would end or escape one is refused before it. */
function toAscii(text: string): string {
  if (/(?![A-Za-z0-9.-])[!-~]/.test(text)) throw invalid(text, LDH)
  const ascii = domainToASCII(text)
  // A label that is spelled in punycode without need, or from another form than the normal one, has a second spelling.
  if (ascii === '' || !PLAIN.test(ascii) || domainToASCII(domainToUnicode(ascii)) !== ascii) throw invalid(text, NO_IDN)
  return ascii
}

/** Checks one label of a normal form. */
function checkLabel(text: string, label: string): void {
  if (label.length === 0) throw invalid(text, 'it has an empty label')
  if (label.length > LIMITS.labelBytes) throw invalid(text, `a label is longer than ${LIMITS.labelBytes} bytes`)
  if (!PLAIN.test(label)) throw invalid(text, LDH)
  const shown = label.startsWith('xn--') ? domainToUnicode(label) : label
  if (shown.startsWith('-') || shown.endsWith('-')) throw invalid(text, 'a label begins or ends with a hyphen')
  // Reserved for encodings such as punycode (RFC 5891 section 4.2.3.1).
  if (shown.startsWith('--', 2)) throw invalid(text, 'a label has hyphens as its third and fourth character')
  if (shown === label) return
  refuseUnseen(text, shown)
  if (!LETTERS.test(shown)) throw invalid(text, LDH)
  const fault = scriptFault(shown)
  if (fault !== undefined) throw invalid(text, `the label ${shown} ${fault}`)
}

/** What makes a label of letters unfit to be told from others by eye. */
function scriptFault(label: string): string | undefined {
  if (TECHNICAL.test(label) || JAMO.test(label) || HIDDEN_DOT.test(label)) return 'holds letters that are not for names'
  if (digitSystems(label).size > 1) return 'mixes digits of several scripts'
  const { systems, known } = scripts ??= { systems: WRITING_SYSTEMS.map(labelOf), known: labelOf(SCRIPTS) }
  if (systems.some(system => system.test(label))) return undefined
  return known.test(label) ? 'mixes scripts' : 'is of a script that names do not use'
}

function refuseUnseen(text: string, part: string): void {
  const unseen = UNSEEN.exec(part)
  if (unseen !== null) throw invalid(text, `it holds ${codePoint(unseen[0])}, which cannot be seen`)
}

/** A label all of whose characters belong to one of the scripts, or to any script: inherited marks, ASCII digits, hyphens. */
function labelOf(scripts: readonly string[]): RegExp {
  return new RegExp(`^[${scripts.map(script => `\\p{scx=${script}}`).join('')}\\p{scx=Zinh}0-9-]+$`, 'u')
}

/** Decimal digits of one script stand together in one row of sixteen code points. */
function digitSystems(label: string): Set<number> {
  return new Set(Array.from(label.matchAll(/\p{Nd}/gu), ([digit]) => (digit.codePointAt(0) ?? 0) >> 4))
}

/** Longest part of a name that an error quotes; it spells out what would upset a terminal. */
const QUOTED = 64

function invalid(text: string, reason: string): CMeshError {
  const start = text.length > QUOTED ? `${text.slice(0, QUOTED)}…` : text
  return new CMeshError('CMESH_NAME_INVALID', { name: start.replaceAll(new RegExp(UNSEEN, 'gu'), codePoint), reason })
}

function codePoint(character: string): string {
  return `<U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}>`
}
