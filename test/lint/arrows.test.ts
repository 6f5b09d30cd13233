/** The architecture's arrows hold: each room's forbidden imports are refused by lint, its own ways are not, and the rule is on everywhere. */
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from '@jest/globals'
import { ESLint, type Linter } from 'eslint'
import tseslint from 'typescript-eslint'
import { arrowsRule } from './arrows-rule.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))

const eslint = new ESLint({
  cwd: root,
  overrideConfigFile: true,
  baseConfig: [{
    files: ['**/*.ts'],
    languageOptions: { parser: tseslint.parser },
    plugins: { cmesh: { rules: { arrows: arrowsRule } } },
    rules: { 'cmesh/arrows': 'error' },
  }],
})

/** What lint says of a file of that path with that text. */
async function complaints(file: string, text: string): Promise<string[]> {
  const [result] = await eslint.lintText(text, { filePath: path.join(root, file) })
  return (result?.messages ?? []).map(({ ruleId, message }) => (ruleId === 'cmesh/arrows' ? message : `not about arrows: ${message}`))
}

const REFUSED: readonly (readonly [file: string, imports: string, complaint: string])[] = [
  ['cmtp/frame.ts', "import { Guard } from '../services/iam/guard.ts'", 'cmtp is the language of the mesh and imports nothing else of it.'],
  ['cmtp/identity/keys.ts', "import type { Config } from '../../node/settings.ts'", 'cmtp is the language of the mesh and imports nothing else of it.'],
  ['cmtp/frame.ts', "import { readFile } from 'node:fs/promises'", 'cmtp does no input and output, and node:fs/promises does.'],
  ['services/state/service.ts', "import { HypercoreStateStore } from '../../providers/state/hypercore.ts'", 'services import cmtp and services, not providers.'],
  ['services/iam/service.ts', "import type { Config } from '../../node/settings.ts'", 'services import cmtp and services, not node.'],
  ['services/events/service.ts', "import { connect } from '../../client/index.ts'", 'services import cmtp and services, not client.'],
  ['services/events/service.ts', "import { connect } from '@nats-io/transport-node'", '@nats-io/transport-node is a technology: it belongs into a provider.'],
  ['services/state/service.ts', "import { open } from 'node:fs'", 'services reach the outside through providers, not through node:fs.'],
  ['providers/state/mock.ts', "import { StateService } from '../../services/state/service.ts'", 'providers import cmtp and the provider.ts of a service, not services/state/service.ts.'],
  ['providers/state/mock.ts', "import { MeshNode } from '../../node/node.ts'", 'providers import cmtp and the provider.ts of a service, not node/node.ts.'],
  ['node/mesh.ts', "import { MockEvents } from '../providers/events/mock.ts'",
    'the node picks providers by name from providers/registry.ts, never providers/events/mock.ts itself.'],
  ['node/main.ts', "import { connect } from '../client/index.ts'", 'the node does not import client.'],
  ['client/connect.ts', "import { MeshNode } from '../node/node.ts'", 'the client imports cmtp only, not node.'],
  ['client/cli/up.ts', "import type { Config } from '../../node/settings.ts'", 'the client imports cmtp only, not node.'],
  ['client/names.ts', "import { Guard } from '../services/iam/guard.ts'", 'the client imports cmtp only, not services.'],
  ['client/names.ts', "import Hypercore from 'hypercore'", 'hypercore is a node\'s, not a client\'s.'],
  ['contracts/hello/index.ts', "import { LIMITS } from '../../cmtp/limits'", 'contracts import nothing of cmtp.'],
  ['contracts/hello/index.ts', "import { readFile } from 'node:fs'", 'contracts import nothing but their SDK, not node:fs.'],
  ['contracts/hello/index.ts', "import { OBJECT_OVERHEAD } from 'rt/common'", 'contracts import nothing but their SDK, not rt/common.'],
  ['bench/routing.ts', "import { startBroker } from '../test/support/broker.ts'", 'the benchmarks do not import test.'],
]

const ALLOWED: readonly (readonly [file: string, imports: string])[] = [
  ['cmtp/frame.ts', "import { LIMITS } from './limits.ts'\nimport { createHash } from 'node:crypto'"],
  ['services/contracts/records.ts', "import type { Log } from '../log.ts'\nimport { CMeshError } from '../../cmtp/errors.ts'"],
  ['services/state/service.ts', "import type { ContractEngine } from '../contracts/provider.ts'"],
  ['providers/state/hypercore.ts', "import type { StateStore } from '../../services/state/provider.ts'\nimport Hypercore from 'hypercore'\nimport { open } from 'node:fs'"],
  ['providers/registry.ts', "import { MockEvents } from './events/mock.ts'"],
  ['node/mesh.ts', "import { createProvider } from '../providers/registry.ts'\nimport { Guard } from '../services/iam/guard.ts'"],
  ['node/bus.ts', "import { connectNats } from '../providers/bus/nats.ts'"],
  ['client/cli/main.ts', "import { connect } from '../index.ts'\nimport { CMeshError } from '../../cmtp/errors.ts'"],
  ['client/cli/up.ts', "export const entry = new URL('../../node/main.js', import.meta.url)"],
  ['contracts/sdk/text.ts', "import { OBJECT_OVERHEAD } from 'rt/common'"],
  ['contracts/hello/index.ts', "import { Map } from 'cmesh/sdk'\nimport { greet } from './greet'"],
  ['test/node/boot.test.ts', "import { MeshNode } from '../../node/node.ts'\nimport { MockEvents } from '../../providers/events/mock.ts'"],
]

describe('the arrows between the folders', () => {
  test.each(REFUSED)('%s may not say: %s', async (file, imports, complaint) => {
    await expect(complaints(file, imports)).resolves.toEqual([complaint])
  })

  test.each(ALLOWED)('%s may say: %s', async (file, imports) => {
    await expect(complaints(file, imports)).resolves.toEqual([])
  })

  test.each([
    ['a dynamic import', "void import('../node/node.ts')"],
    ['a type import in place', "export type Node = import('../node/node.ts').MeshNode"],
    ['a re-export', "export * from '../node/node.ts'"],
    ['a named re-export', "export { MeshNode } from '../node/node.ts'"],
  ])('%s counts as an import', async (_what, text) => {
    await expect(complaints('client/connect.ts', text)).resolves.toEqual(['the client imports cmtp only, not node.'])
  })

  test('the rule is on for every room, and every room but the two entry points may not end the process', async () => {
    const real = new ESLint({ cwd: root })
    const rules = async (file: string): Promise<Partial<Linter.RulesRecord>> => {
      const config = await real.calculateConfigForFile(path.join(root, file)) as Linter.Config
      return config.rules ?? {}
    }
    for (const file of ['cmtp/frame.ts', 'services/iam/guard.ts', 'providers/registry.ts', 'node/mesh.ts', 'node/setup/steps.mjs', 'client/connect.ts', 'contracts/hello/index.ts', 'test/lint/arrows.test.ts']) {
      expect({ file, arrows: (await rules(file))['cmesh/arrows'] }).toEqual({ file, arrows: [2] })
    }
    const mayExit: string[] = []
    for (const file of ['cmtp/frame.ts', 'services/iam/guard.ts', 'providers/registry.ts', 'node/node.ts', 'node/main.ts', 'client/connect.ts', 'client/cli/main.ts', 'client/cli/up.ts']) {
      const exit = (await rules(file))['no-restricted-properties'] as unknown as readonly unknown[]
      if (exit[0] === 0) mayExit.push(file)
    }
    expect(mayExit).toEqual(['node/main.ts', 'client/cli/main.ts'])
  })
})
