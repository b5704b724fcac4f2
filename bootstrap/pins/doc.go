// Package pins shows people what servers say of themselves and nobody has approved, beside
// what was approved, and writes their approvals to Vault.
//
// All of it was written by servers that may be hostile. So every character that a terminal
// would act on, that a reader would not see, or that looks like another one is spelled out
// ([speller]), and what is approved is what was shown, by its digest.
package pins
