package credentials

import (
	"context"

	"vault-plugin-secrets-mcp/gateway/grants"
)

// Server has the credentials of one registration, for each principal.
type Server struct{}

// Get returns the principal's credentials. The error is an [Error], or that of ctx.
func (s *Server) Get(ctx context.Context, grant *grants.Grant) (*Set, error) {
	panic("not yet")
}
