/** A failure of the set-up that the person at the terminal can do something about: its message says what happened and what to do. */
export class SetupError extends Error {}
