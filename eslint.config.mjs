/**
 * What lint holds: typed rules over sources and tests, the arrows between folders, one place that ends the process, and the
 * style that a formatter would give. A rule that is off says why.
 */
import js from '@eslint/js'
import tseslint from 'typescript-eslint'
import { arrowsRule } from './test/lint/arrows-rule.mjs'

export const SOURCES = ['cmtp/**/*.ts', 'services/**/*.ts', 'providers/**/*.ts', 'node/**/*.ts', 'client/**/*.ts', 'bench/**/*.ts']
export const TESTS = ['test/**/*.ts']
const CONTRACTS = ['contracts/**/*.ts']
/** The only files that end the process: a library that does takes the decision from its caller. */
const PROCESSES = ['node/main.ts', 'node/cluster/main.ts', 'client/cli/main.ts', 'bench/**/*.ts']

/** @type {import('eslint').Linter.RulesRecord} */
const style = {
  'comma-dangle': ['error', 'always-multiline'],
  'eol-last': 'error',
  'eqeqeq': 'error',
  'keyword-spacing': 'error',
  // The style is 130; lint refuses what no layout excuses.
  'max-len': ['error', { code: 160, ignoreComments: true, ignoreStrings: true, ignoreTemplateLiterals: true, ignoreRegExpLiterals: true }],
  'no-multiple-empty-lines': ['error', { max: 1 }],
  'no-tabs': 'error',
  'no-trailing-spaces': 'error',
  'no-warning-comments': ['error', { terms: ['todo', 'fixme', 'xxx', 'hack'], location: 'anywhere' }],
  'object-curly-spacing': ['error', 'always'],
  'quotes': ['error', 'single', { avoidEscape: true }],
  'semi': ['error', 'never', { beforeStatementContinuationChars: 'always' }],
  'space-infix-ops': 'error',
  // Frames, names and the broker's protocol are made of control characters.
  'no-control-regex': 'off',
}

/** @type {import('eslint').Linter.RulesRecord} */
const typed = {
  '@typescript-eslint/consistent-type-imports': ['error', { disallowTypeAnnotations: false }],
  '@typescript-eslint/dot-notation': ['error', { allowIndexSignaturePropertyAccess: true }],
  // A text taken apart into code points, as its width is counted.
  '@typescript-eslint/no-misused-spread': ['error', { allow: [{ from: 'lib', name: 'string' }] }],
  '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_', destructuredArrayIgnorePattern: '^_', ignoreRestSiblings: true }],
  '@typescript-eslint/prefer-nullish-coalescing': ['error', { ignorePrimitives: { string: true } }],
  '@typescript-eslint/prefer-promise-reject-errors': ['error', { allowThrowingUnknown: true }],
  '@typescript-eslint/restrict-plus-operands': ['error', { allowNumberAndString: true }],
  '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
  '@typescript-eslint/strict-boolean-expressions': ['error', { allowNullableBoolean: true, allowNullableString: true }],
  // An implementation of an interface whose other implementations wait may have nothing to wait for.
  '@typescript-eslint/require-await': 'off',
  // Under noUncheckedIndexedAccess a cast says what an index is known to hold.
  '@typescript-eslint/non-nullable-type-assertion-style': 'off',
  // Narrowing does not see that what is awaited or called changes a field, so a check after it reads as useless.
  '@typescript-eslint/no-unnecessary-condition': 'off',
  // A type that only the caller knows, as in `json<T>()`.
  '@typescript-eslint/no-unnecessary-type-parameters': 'off',
  // What was caught is thrown on as it is; the core rule refuses literals.
  '@typescript-eslint/only-throw-error': 'off',
  'no-throw-literal': 'error',
  // There are no enums here; those of the compiler are plain numbers to us.
  '@typescript-eslint/no-unsafe-enum-assignment': 'off',
  '@typescript-eslint/consistent-type-definitions': 'off',
  '@typescript-eslint/no-confusing-void-expression': 'off',
  '@typescript-eslint/no-empty-function': 'off',
  '@typescript-eslint/prefer-for-of': 'off',
  '@typescript-eslint/prefer-includes': 'off',
  '@typescript-eslint/prefer-optional-chain': 'off',
}

/** @type {import('eslint').Linter.RulesRecord} */
const arrows = { 'cmesh/arrows': 'error' }

export default tseslint.config(
  { ignores: ['dist/**', 'coverage/**', 'bench/peers/**', 'contracts/**/build/**'] },
  {
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    plugins: { cmesh: { rules: { arrows: arrowsRule } } },
  },
  js.configs.recommended,
  { rules: style },
  {
    files: [...SOURCES, ...TESTS],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { project: ['test/tsconfig.json'], tsconfigRootDir: import.meta.dirname } },
    rules: { ...typed, ...arrows },
  },
  {
    files: SOURCES,
    rules: {
      'no-restricted-properties': ['error', { object: 'process', property: 'exit', message: 'only node/main.ts, node/cluster/main.ts and client/cli/main.ts end the process.' }],
    },
  },
  { files: PROCESSES, rules: { 'no-restricted-properties': 'off' } },
  {
    // What a package declares is as it is.
    files: ['**/*.d.ts'],
    rules: { '@typescript-eslint/no-extraneous-class': 'off' },
  },
  {
    files: TESTS,
    rules: {
      // A test takes things apart on purpose: methods from their objects, classes from what makes them, text into characters.
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/no-base-to-string': 'off',
      '@typescript-eslint/no-extraneous-class': 'off',
      '@typescript-eslint/no-misused-spread': 'off',
      '@typescript-eslint/no-unsafe-class-instance-assignment': 'off',
      '@typescript-eslint/no-meaningless-void-operator': 'off',
    },
  },
  {
    // AssemblyScript: TypeScript's syntax with other types and its own built-ins, checked by its own compiler.
    files: CONTRACTS,
    languageOptions: { parser: tseslint.parser, parserOptions: { project: false, allowInvalidAST: true } },
    rules: { ...arrows, 'no-undef': 'off', 'no-unused-vars': 'off', 'eqeqeq': 'off', 'no-loss-of-precision': 'off' },
  },
  {
    files: ['**/*.mjs'],
    languageOptions: { globals: { process: 'readonly', Buffer: 'readonly', URL: 'readonly', console: 'readonly', performance: 'readonly', setTimeout: 'readonly', clearTimeout: 'readonly', fetch: 'readonly', AbortSignal: 'readonly', AbortController: 'readonly', TextDecoder: 'readonly', TextEncoder: 'readonly' } },
    rules: { ...arrows, 'no-unused-vars': ['error', { argsIgnorePattern: '^_' }] },
  },
)
