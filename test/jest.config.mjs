/** Jest over TypeScript sources as ES modules; swc strips the types. */
export default {
  rootDir: '..',
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '\\.ts$': ['@swc/jest', { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' }, module: { type: 'es6' }, sourceMaps: 'inline' }],
  },
  moduleNameMapper: {
    '^assemblyscript(/asc|/binaryen)?$': '<rootDir>/test/support/contract-compiler.mjs',
  },
  testSequencer: '<rootDir>/test/sequencer.mjs',
  testTimeout: 60_000,
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/bench/peers/'],
  cacheDirectory: '<rootDir>/node_modules/.cache/jest',
}
