/**
 * Entry point, before a contract's tests (`node --import`): makes `cmesh` and its parts resolve to this installation where the
 * project has none of its own, so that a contract can be tested before anything is installed beside it.
 */
import { register } from 'node:module'

register(new URL(`./resolve${import.meta.url.slice(import.meta.url.lastIndexOf('.'))}`, import.meta.url))
