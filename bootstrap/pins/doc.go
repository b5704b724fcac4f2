// Package pins shows definitions of servers without an approval to people, beside the
// approved ones, and writes their approvals to Vault.
//
// Servers have written all of them, and may be hostile. So every character that a terminal
// would act on, that a reader would not see, or that looks like another one is spelled out
// ([speller]), and an approval is of the definition that was shown, by its digest.
package pins
