/** A failure of the set-up, for the person at the terminal: its message says what happened and what to do about it. */
export class SetupError extends Error {}
