/**
 * The host interface as an import object: the functions of module `cmesh` (`contracts/ABI.md`), each bound to the frame that runs.
 *
 * Invariant: a function either does what it says or throws a `ContractStop`; anything else that is thrown is the host's own failure.
 */
import type { HostFunctionName } from '../meter/imports.ts'
import type { Frame } from '../frame.ts'
import { stop } from './bytes.ts'
import { ctx, ctxs, fail, input, output, reg, reglen } from './context.ts'
import { seed, sha256, verify } from './crypto.ts'
import { call, emit, send } from './messages.ts'
import { del, get, scan, set } from './state.ts'

/** What runs: a contract's function, or the start of a module. */
export interface Stage {
  frame: Frame | undefined
  /** Of a module that starts: there is neither context nor state, only a way to refuse. */
  starting: Frame | undefined
}

type HostFunction = (...values: never[]) => unknown

/**
 * The import object of every instance. Each function is written out with the parameters it has: the engine at hand calls those
 * fastest whose parameters are as many as the import has.
 */
export function hostImports(stage: Stage): { readonly cmesh: Readonly<Record<HostFunctionName, HostFunction>> } {
  return {
    cmesh: Object.freeze({
      input: () => input(running(stage)),
      reg: (pointer: number) => { reg(running(stage), pointer) },
      reglen: () => reglen(running(stage)),
      output: (pointer: number, length: number) => { output(running(stage), pointer, length) },
      get: (key: number, length: number) => get(running(stage), key, length),
      set: (key: number, keyLength: number, value: number, length: number) => { set(running(stage), key, keyLength, value, length) },
      del: (key: number, length: number) => del(running(stage), key, length),
      scan: (from: number, fromLength: number, to: number, toLength: number, limit: number, flags: number) =>
        scan(running(stage), from, fromLength, to, toLength, limit, flags),
      emit: (topic: number, topicLength: number, data: number, length: number) => { emit(running(stage), topic, topicLength, data, length) },
      call: (fqmn: number, fqmnLength: number, given: number, length: number, gas: bigint) =>
        call(running(stage), fqmn, fqmnLength, given, length, gas),
      send: (fqmn: number, fqmnLength: number, body: number, length: number, reply: number, replyLength: number, gas: bigint) =>
        send(running(stage), fqmn, fqmnLength, body, length, reply, replyLength, gas),
      ctx: (field: number) => ctx(running(stage), field),
      ctxs: (field: number) => ctxs(running(stage), field),
      sha256: (pointer: number, length: number, to: number) => { sha256(running(stage), pointer, length, to) },
      verify: (key: number, signature: number, message: number, length: number) => verify(running(stage), key, signature, message, length),
      seed: (to: number) => { seed(running(stage), to) },
      fail: (pointer: number, length: number) => fail(stage.starting ?? running(stage), pointer, length),
    }),
  }
}

function running(stage: Stage): Frame {
  return stage.frame ?? absent(stage)
}

function absent({ starting }: Stage): never {
  if (starting !== undefined) throw stop('CMESH_CONTRACT_ABI', 'a host function was called while the module starts')
  throw new Error('a host function was called outside a call')
}
