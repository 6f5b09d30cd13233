/** `cmesh/sdk` as an editor sees it: the SDK, and with it what the compiler of contracts adds to the language. */
/// <reference path="./language.d.ts" />
export * from '../sdk/index'
