package review

import (
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
)

// Snapshot is the input of a review: a mount as it was read.
type Snapshot struct {
	At      time.Time // by Vault's clock
	Cluster string
	Mount   string

	Clients  map[string]*ClientSettings
	Roles    map[string]*RoleSettings
	Servers  map[string]*ServerSettings
	Policies map[string]policy.Source

	// Asked has the engine's decisions about servers whose URLs have a query. Its values are
	// write-only, so nobody else can compare the whole URL with a policy.
	Asked map[Question]policy.Decision

	Usage Usage
}

// ClientSettings are the settings of a client that a review needs.
type ClientSettings struct {
	policy.Lists
	limit

	Role      string    `json:"role"`
	Policies  []string  `json:"policies"`
	Disabled  bool      `json:"disabled"`
	CreatedAt time.Time `json:"created_at"`
	LastUsed  string    `json:"last_used"` // a day; "": not known
}

// RoleSettings are a role's.
type RoleSettings struct {
	policy.Lists
	limit
}

// limit is a rate limit as a read answers it.
type limit struct {
	Rate  float64 `json:"rate_limit"`
	Burst int     `json:"rate_burst"`
}

// ServerSettings are a registration's, without any secret.
type ServerSettings struct {
	Transport   string   `json:"transport"`
	URL         string   `json:"url"` // without its query
	Query       []string `json:"url_query"`
	Command     string   `json:"command"`
	Args        []string `json:"args"`
	Description string   `json:"description"`
	Disabled    bool     `json:"disabled"`
}

// Question is a question to the engine: what do these policies, and the managed ones, decide
// about that server?
type Question struct {
	Policies string // joined by commas, as the client names them
	Server   string
}
