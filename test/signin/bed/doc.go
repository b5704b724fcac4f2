// Package bed sets up sign-in for black-box tests: a Vault with the engine and an oidc auth
// mount of its own, a company's identity provider with a few people, two identities, a
// server that remembers and one over HTTP, and gateways behind one public URL. It also has
// the two programs that take part, as raw HTTP: a person's browser, and an application
// that is an OAuth client.
//
//	b := bed.New(t, bed.Options{})
//	editor := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
//	alice := b.SignIn(t, bed.Alice, editor, bed.Engineering)
//	alice.Works(t)
//	alice.Refresh(t)
//
// Every token, code and cookie that passes is a secret to the harness, and the log of each
// gateway is searched for tokens of Vault besides.
package bed
