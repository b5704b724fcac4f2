// Package signin is the gateway's sign-in: OAuth 2.1 in front of Vault's own logins, without
// a store. A person's login is Vault's oidc method, a code is a wrapping token of Vault, a
// session is the person's Vault token, and an access token is a lease of the engine's creds/.
//
// The browser's side identifies the person and asks for consent: authorize, login, callback,
// consent. The application's side exchanges the result: token, revoke, register. Between two
// requests the gateway keeps nothing. State that must outlive a request is sealed in a cookie,
// a form, a code or a refresh token; any gateway of the mount opens it. Only limits are in
// memory.
//
// All URLs are built from public_url, never from the request's Host.
package signin
