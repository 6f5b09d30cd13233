/**
 * What a person sees before a session is signed: all that the mesh will grant and keep, as the mesh wrote it and nothing else. Texts in it
 * are the mesh's and an issuer's, so no character that moves, hides or reverses what stands beside it is shown as itself.
 */
import type { GrantMessage } from '../../cmtp/identity/messages.ts'

/** Controls, format characters (those that reverse a line among them) and the separators that break one. */
const DECEPTIVE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu

/** Labels and values, one a line; a label that is empty goes on with the one above. */
export function consentFields(grant: GrantMessage): [label: string, value: string][] {
  const { audience, sub, perms, claims, purpose, via, lifetimeMs, amr, aal } = grant
  const kept = claims.map(({ id, value, issuer }) => `${id} = ${value}, said by ${issuer}`)
  return [
    ['mesh', audience],
    ['you', sub],
    ['for', purpose],
    ...listed('may', perms),
    ...listed('keeps', kept.length === 0 ? ['no attributes of you'] : kept),
    ...(via === undefined ? [] : listed('carried by', [`session ${via}`])),
    ['proven by', `${amr.length === 0 ? 'nothing' : amr.join(', ')} (assurance ${aal} of 2)`],
    ['lasts', `${Math.round(lifetimeMs / 1_000)} s, and is renewed while it is used`],
  ].map(([label = '', value = '']) => [label, value.replace(DECEPTIVE, escaped)])
}

function listed(label: string, values: readonly string[]): [string, string][] {
  return values.map((value, i) => [i === 0 ? label : '', value])
}

function escaped(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`
}
