/**
 * Skips as files in the data directory of a node: what the node noted of its halt, and the skip that lets it pass. A skip is written whole or
 * not at all, and never over another one.
 */
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import { checkHalt, checkSkip, HALT_FILE, SKIP_DIRECTORY, type Halt, type Skip } from '../cmtp/skip.ts'

/** Where the node of this directory halted. Rejects with `CMESH_STATE_SKIP` where it has noted no halt. */
export async function readHalt(dir: string): Promise<Halt> {
  const file = path.join(dir, HALT_FILE)
  return checkHalt(await readJson(file, `the node in ${dir} has not halted at an entry: ${file} is missing`))
}

/** Rejects with `CMESH_STATE_SKIP`. */
export async function readSkip(file: string): Promise<Skip> {
  return checkSkip(await readJson(file, `${file} cannot be read`))
}

/**
 * Gives the node of this directory a skip for the place where it halted; resolves with the file. Rejects with `CMESH_STATE_SKIP` for any other
 * place, and where another skip for it is there.
 */
export async function giveSkip(dir: string, skip: Skip): Promise<string> {
  const halt = await readHalt(dir)
  for (const key of ['mesh', 'operator', 'epoch', 'seq', 'hash'] as const) {
    if (skip[key] !== halt[key]) throw refused(`it is for ${key} ${skip[key]}, and the node in ${dir} halted at ${key} ${halt[key]}`)
  }
  const file = path.join(dir, SKIP_DIRECTORY, `${skip.epoch}-${skip.seq}.json`)
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 })
  const fresh = `${file}.${process.pid}`
  await writeFile(fresh, `${JSON.stringify(skip)}\n`, { mode: 0o600, flush: true })
  try {
    await link(fresh, file)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause
    if (JSON.stringify(await readSkip(file)) !== JSON.stringify(skip)) throw refused(`${file} is there already; remove it to give another reason`)
  } finally {
    await rm(fresh, { force: true })
  }
  return file
}

async function readJson(file: string, missing: string): Promise<unknown> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    throw new CMeshError('CMESH_STATE_SKIP', { reason: missing }, { cause })
  }
  try {
    return JSON.parse(text) as unknown
  } catch (cause) {
    throw new CMeshError('CMESH_STATE_SKIP', { reason: `${file} holds no JSON` }, { cause })
  }
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_STATE_SKIP', { reason })
}
