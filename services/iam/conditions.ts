/**
 * Conditions of a grant: from when, until when, how sure the mesh has to be of who it is, and which attribute of whom. What a session is
 * like is known to the guard alone: the log carries neither assurance nor attributes, so replicas recheck times and nothing else.
 */
import type { Facts } from './provider.ts'

export interface Condition {
  /** ms since 1970: good from here on, and good before here. */
  readonly notBefore?: number
  readonly notAfter?: number
  /** The least assurance of the session. */
  readonly aal?: 1 | 2
  /** An attribute the session must hold, by this issuer; with any value where none stands here. */
  readonly attribute?: { readonly id: string, readonly value?: string, readonly issuer: string }
}

/**
 * What is known of the session that uses a grant: its facts; `none`, so that nothing about a session counts as met; `log`, where it does,
 * since the guard looked; `ever`, whatever may still come true.
 */
export type Session = Facts | 'none' | 'log' | 'ever'

export function isMet({ notBefore, notAfter, aal, attribute }: Condition, timeMs: number, session: Session): boolean {
  if (notAfter !== undefined && timeMs >= notAfter) return false
  if (session === 'ever') return true
  if (notBefore !== undefined && timeMs < notBefore) return false
  if (session === 'log') return true
  if (aal !== undefined && (session === 'none' || session.aal < aal)) return false
  if (attribute === undefined) return true
  const { id, value, issuer } = attribute
  return session !== 'none' && session.attributes.some(held => held.id === id && held.issuer === issuer && (value === undefined || held.value === value))
}

export function isUnconditional({ notBefore, notAfter, aal, attribute }: Condition): boolean {
  return notBefore === undefined && notAfter === undefined && aal === undefined && attribute === undefined
}

/** The next time after `nowMs` at which time alone changes whether it is met; `Infinity` when none does. */
export function nextChange({ notBefore, notAfter }: Condition, nowMs: number): number {
  return Math.min(...[notBefore, notAfter].map(at => (at !== undefined && at > nowMs ? at : Infinity)))
}

/** The conditions alone, of anything that has some. */
export function conditionOf({ notBefore, notAfter, aal, attribute }: Condition): Condition {
  return {
    ...(notBefore !== undefined && { notBefore }), ...(notAfter !== undefined && { notAfter }),
    ...(aal !== undefined && { aal }), ...(attribute !== undefined && { attribute }),
  }
}
