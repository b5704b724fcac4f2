// Package kubernetes has service accounts sign in at Vault's kubernetes auth method, with an
// API server that makes the same checks as the real one.
package kubernetes
