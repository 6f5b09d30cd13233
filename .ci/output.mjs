/**
 * Output as a page shows it, compared with output as it is. DIDs, hashes, times, ports, sequences and widths of columns may
 * differ, and progress may appear; `…` in what is shown stands for whatever else does, within a line for any text, alone on a line for any lines.
 */

/**
 * Whether all of it is as shown.
 *
 * @param {string} shown
 * @param {string} actual
 * @param {boolean} [figuresDiffer] Whether numbers are measurements.
 */
export function equals(shown, actual, figuresDiffer = false) {
  const same = (/** @type {string} */ text) => (figuresDiffer ? settled(text).replace(/\d[\d,.]*/g, '…') : settled(text))
  return new RegExp(`^${pattern(same(shown))}\\s*$`).test(same(actual))
}

/**
 * Whether it has appeared somewhere in what there is so far.
 *
 * @param {string} shown
 * @param {string} actual
 */
export function contains(shown, actual) {
  return new RegExp(`(?:^|\\n)${pattern(settled(shown))}`).test(settled(actual))
}

/**
 * Without colours and blank edges.
 *
 * @param {string} text
 */
export function clean(text) {
  return text.replace(/\u001b\[[0-9;]*m/g, '').replace(/[ \t]+$/gm, '').replace(/^\n+|\n+$/g, '')
}

/**
 * Without what differs from run to run.
 *
 * @param {string} text
 */
function settled(text) {
  return clean(text)
    // Progress, which appears where something took longer than a second.
    .replace(/^.* \(\d+ s\)\n?/gm, '')
    .replace(/\bz6Mk[1-9A-HJ-NP-Za-km-z]{20,}/g, 'z6Mk…')
    .replace(/\b(?:0x)?[0-9a-f]{16,}\b/g, '…')
    .replace(/\b\d{4}-\d\d-\d\dT[\d:.]+Z/g, '…')
    .replace(/(127\.0\.0\.1:)\d+/g, '$1…')
    .replace(/#\d+/g, '#…')
    .replace(/^(sid\s+)\S+/gm, '$1…')
    .replace(/\d+(?= µs)/g, '…')
    .replace(/ {2,}/g, '  ')
}

/**
 * The source of an expression for a text in which `…` stands for anything.
 *
 * @param {string} shown
 */
function pattern(shown) {
  const lines = shown.split('\n')
  return lines.map((line, i) => {
    if (line.trim() === '…') return '(?:[^\\n]*(?:\\n|$))*?'
    const source = line.split('…').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('[^\\n]*')
    return i === lines.length - 1 ? source : `${source}\\n`
  }).join('')
}
