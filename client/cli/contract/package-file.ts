/** Code as a package in a file of its own for as long as something works with it: what is asked of another process goes by name. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodePackage, PACKAGE_SALT_BYTES } from '../../../cmtp/package.ts'
import type { ContractCode } from './code.ts'

/** Unsigned, as a replacement: without arguments of `init`. */
export async function withPackageFile<T>({ module, manifest }: ContractCode, use: (file: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), 'cmesh-package-'))
  try {
    const file = join(dir, 'code.cmpk')
    await writeFile(file, encodePackage({ salt: Buffer.alloc(PACKAGE_SALT_BYTES), strategy: 'replaceable', manifest, init: Buffer.alloc(0), module }))
    return await use(file)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}
