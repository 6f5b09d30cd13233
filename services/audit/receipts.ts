export interface ReceiptWriter { write(of: { id: Uint8Array, finalHash: string, sealed: Buffer, texts: readonly Buffer[], rooted: object }): Buffer }
