/**
 * `npm run setup`: makes a fresh clone ready to run. It needs nothing but Node.js, and a second run finds everything done.
 * This file only checks the version of Node.js, in words that an old one still understands; `steps.mjs` does the rest.
 */
import { fileURLToPath } from 'node:url'

const MIN_MAJOR = 20
const MIN_MINOR = 19

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < MIN_MAJOR || (major === MIN_MAJOR && minor < MIN_MINOR)) {
  process.stderr.write(`CMesh needs Node.js ${MIN_MAJOR}.${MIN_MINOR} or newer; this is ${process.versions.node}.
Get it from https://nodejs.org/en/download or by a version manager (nvm install 20, fnm install 20), then run this again.
`)
  process.exitCode = 1
} else {
  const { setUp } = await import('./steps.mjs')
  process.exitCode = await setUp({ root: fileURLToPath(new URL('../..', import.meta.url)) })
}
