package grants

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
)

// allServers in a client's allowed_servers admits every registered server.
const allServers = "*"

// Grant is what Vault said about one token: who its holder is, and what they
// may reach. It never holds the token. A Grant is immutable once published; a
// change at Vault makes another one.
type Grant struct {
	Client    string    // name
	ClientID  string    // unchanging: survives no re-creation of the client
	Accessor  string    // names the token in logs
	ExpiresAt time.Time // this gateway's clock; zero: never

	*terms

	// When Vault said so: see view.go.
	index uint64
	sent  time.Time

	// stale is set by a change that concerns the grant: Vault must be asked
	// before its next use.
	stale atomic.Bool

	entry *entry // where its live requests are kept; nil outside of a cache
}

// AllowsServer reports whether the client's allow-list admits a server of that
// name. It says nothing about policies.
func (g *Grant) AllowsServer(name string) bool {
	if g.allServers {
		return true
	}
	_, found := slices.BinarySearch(g.allowedServers, name)
	return found
}

// AllowsSource reports whether the token may be used from addr. A client
// without token_bound_cidrs may use it from anywhere. An address that is not
// known is in no range.
func (g *Grant) AllowsSource(addr netip.Addr) bool {
	if len(g.boundCIDRs) == 0 {
		return true
	}
	addr = addr.Unmap().WithZone("")
	for _, prefix := range g.boundCIDRs {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// Tools returns the tool rules that concern the server, compiled once. A nil
// result means that there are none: everything passes.
func (g *Grant) Tools(server string) *policy.Tools {
	if g.tools == nil {
		return nil
	}
	if tools, ok := g.tools.Load(server); ok {
		return tools.(*policy.Tools)
	}
	tools, _ := g.tools.LoadOrStore(server, policy.CompileTools(server, g.allowedTools, g.deniedTools))
	return tools.(*policy.Tools)
}

// SameTools reports whether both grants have the same tool rules.
func (g *Grant) SameTools(other *Grant) bool {
	return slices.Equal(g.allowedTools, other.allowedTools) && slices.Equal(g.deniedTools, other.deniedTools) &&
		(g.tools == nil) == (other.tools == nil)
}

// expired reports whether the token's end has come.
func (g *Grant) expired(now time.Time) bool {
	return !g.ExpiresAt.IsZero() && reached(now, g.ExpiresAt)
}
