package harness

import (
	"testing"

	"vault-plugin-secrets-mcp/test/harness/authority"
)

// Authority is an authority of [authority].
type Authority = authority.Authority

// NewAuthority makes one.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	return authority.New(t)
}
