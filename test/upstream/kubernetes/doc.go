// Package kubernetes has service accounts sign in at Vault's kubernetes auth method, with an
// API server that checks what the real one checks.
package kubernetes
