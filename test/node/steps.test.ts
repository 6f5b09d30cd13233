import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../cmtp/errors.ts'
import { Steps, type Step } from '../../node/steps.ts'
import { SILENT_LOG, type Log } from '../../services/log.ts'
import { failureOf } from '../support/iam.ts'

/** Steps that say what is done to them; `fails` names those whose start or stop fails. */
function steps(names: readonly string[], said: string[], fails: Readonly<Record<string, Error>> = {}): Step[] {
  const act = (what: string) => async (): Promise<void> => {
    said.push(what)
    await Promise.resolve()
    if (fails[what] !== undefined) throw fails[what]
  }
  return names.map(name => ({ name, start: act(`start ${name}`), stop: act(`stop ${name}`) }))
}

const nothing = (): void => undefined

describe('starting', () => {
  test('runs the steps one after the other, each reported as it begins', async () => {
    const said: string[] = []
    await new Steps(SILENT_LOG).start(steps(['a', 'b', 'c'], said), name => { said.push(`begin ${name}`) })
    expect(said).toEqual(['begin a', 'start a', 'begin b', 'start b', 'begin c', 'start c'])
  })

  test('a step that fails is undone with all before it, last first, none after it begun, and named in the error', async () => {
    const said: string[] = []
    const cause = new Error('no room')
    const failure = await failureOf(() => new Steps(SILENT_LOG).start(steps(['a', 'b', 'c'], said, { 'start b': cause }), nothing))
    expect(said).toEqual(['start a', 'start b', 'stop b', 'stop a'])
    expect(failure).toMatchObject({ code: 'CMESH_BOOT_FAILED', message: 'Boot stopped at step b: no room', detail: { step: 'b' } })
    expect(failure.cause).toBe(cause)
  })

  test('a coded cause gives its code, status, retry class and detail; the text names the step, and one that names its own keeps it', async () => {
    const coded = new CMeshError('CMESH_BUS_CONNECT', { servers: 'nats://a', reason: 'silence' })
    const failure = await failureOf(() => new Steps(SILENT_LOG).start(steps(['a'], [], { 'start a': coded }), nothing))
    expect(failure).toMatchObject({
      code: 'CMESH_BUS_CONNECT', status: 503, retry: 'retry', detail: { servers: 'nats://a', reason: 'silence' },
      message: 'Boot stopped at step a: No broker can be used at nats://a: silence.',
    })
    expect(failure.cause).toBe(coded)
    const named = new CMeshError('CMESH_BOOT_FAILED', { step: 'self-test of events', reason: 'silence' })
    expect(await failureOf(() => new Steps(SILENT_LOG).start(steps(['a'], [], { 'start a': named }), nothing))).toBe(named)
  })

  test('a failure while undoing does not hide what went wrong first, and is logged', async () => {
    const said: string[] = []
    const logged: unknown[] = []
    const log: Log = { ...SILENT_LOG, error: fields => { logged.push(fields) } }
    const fails = { 'start c': new Error('first'), 'stop b': new Error('second') }
    const failure = await failureOf(() => new Steps(log).start(steps(['a', 'b', 'c'], said, fails), nothing))
    expect(failure.message).toBe('Boot stopped at step c: first')
    expect(said.slice(3)).toEqual(['stop c', 'stop b', 'stop a'])
    expect(logged).toContainEqual({ err: fails['stop b'], step: 'b' })
  })

  test('a step without a stop needs none', async () => {
    const { code } = await failureOf(() => new Steps(SILENT_LOG).start([
      { name: 'a', start: nothing }, { name: 'b', start: () => { throw new Error('no') } },
    ], nothing))
    expect(code).toBe('CMESH_BOOT_FAILED')
  })
})

describe('stopping', () => {
  test('undoes what was started, last first, once', async () => {
    const said: string[] = []
    const started = new Steps(SILENT_LOG)
    await started.start(steps(['a', 'b'], said), nothing)
    await started.stop()
    await started.stop()
    expect(said.slice(2)).toEqual(['stop b', 'stop a'])
  })

  test('goes on past a step that fails to stop, and rejects with the first failure at the end', async () => {
    const said: string[] = []
    const fails = { 'stop b': new Error('first'), 'stop a': new Error('second') }
    const started = new Steps(SILENT_LOG)
    await started.start(steps(['a', 'b', 'c'], said, fails), nothing)
    await expect(started.stop()).rejects.toBe(fails['stop b'])
    expect(said.slice(3)).toEqual(['stop c', 'stop b', 'stop a'])
  })

  test('before a start has nothing to do', async () => {
    await expect(new Steps(SILENT_LOG).stop()).resolves.toBeUndefined()
  })
})
