/** A hook of Node's module loader: `cmesh` as the importing project has it, else as it is here. */
import type { ResolveHook } from 'node:module'

export const resolve: ResolveHook = async (specifier, context, next) => {
  if (specifier !== 'cmesh' && !specifier.startsWith('cmesh/')) return await next(specifier, context)
  try {
    return await next(specifier, context)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND')) throw error
    return await next(specifier, { ...context, parentURL: import.meta.url })
  }
}
