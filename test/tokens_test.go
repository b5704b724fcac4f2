package test

import (
	"crypto/rand"
	"testing"

	"vault-plugin-secrets-mcp/backend/token"
)

// unissuedToken returns a token that has the form of an issued one, checksum
// and all, and was issued by nobody here.
func unissuedToken(t *testing.T) string {
	t.Helper()
	made, err := token.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return made
}
