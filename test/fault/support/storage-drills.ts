/** Damage to the log of a store. */
export interface StorageResult { readonly from: number }
