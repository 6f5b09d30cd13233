/**
 * The programs that a mesh starts, each in one file over what the compiler wrote for it: a node has some 400 modules, and to find and read them one by one
 * takes a fifth of the time until it is ready. Packages stay where they are, and so do the modules, for whoever imports one.
 */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const PROGRAMS = ['node/main.ts', 'node/cluster/main.ts', 'node/archive/main.ts']

const root = fileURLToPath(new URL('../..', import.meta.url))
for (const program of PROGRAMS) {
  await build({
    absWorkingDir: root,
    entryPoints: [program],
    outfile: `dist/${program.replace(/\.ts$/, '.js')}`,
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node20',
    tsconfigRaw: {},
    // Positions in a stack are those of the sources for whoever runs it with --enable-source-maps.
    sourcemap: true,
    sourcesContent: false,
    logLevel: 'warning',
    plugins: [{ name: 'place of each module', setup: (bundler) => { bundler.onLoad({ filter: /\.ts$/ }, (file) => inPlace(file.path, program)) } }],
  })
}

/**
 * A module that looks for what lies beside it looks where it would lie by itself.
 *
 * @param {string} file
 * @param {string} program
 * @returns {Promise<import('esbuild').OnLoadResult>}
 */
async function inPlace(file, program) {
  const text = await readFile(file, 'utf8')
  const from = path.relative(path.dirname(path.join(root, program)), file).replaceAll(path.sep, '/').replace(/\.ts$/, '.js')
  return { contents: text.replaceAll('import.meta.url', `new URL('./${from}', import.meta.url).href`), loader: 'ts' }
}
