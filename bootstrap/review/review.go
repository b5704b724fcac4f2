package review

import (
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
)

// schema is the version of a review's JSON form. A change that readers of an earlier form
// would misread raises it.
const schema = 1

// Review has the servers and items that clients may reach at one time. Its lists are
// sorted by name, so that two reviews of the same state are equal. It has no secrets.
type Review struct {
	Schema  int       `json:"schema"`
	At      time.Time `json:"at"` // by Vault's clock
	Cluster string    `json:"cluster"`
	Mount   string    `json:"mount"`

	Counts   Counts    `json:"counts"`
	Coverage Coverage  `json:"coverage"`
	Clients  []Client  `json:"clients"`
	Roles    []Role    `json:"roles"`
	Servers  []Server  `json:"servers"`
	Pairs    []Pair    `json:"pairs"` // each client with each server
	Commands []Command `json:"commands"`

	// Difference has the changes since an earlier review; nil without one.
	Difference *Difference `json:"difference,omitempty"`
}

// Counts are the sums of a review.
type Counts struct {
	Clients         int `json:"clients"`
	DisabledClients int `json:"disabled_clients"`
	Servers         int `json:"servers"`
	DisabledServers int `json:"disabled_servers"`
	Roles           int `json:"roles"`
	Policies        int `json:"policies"`
	Pairs           int `json:"pairs"`
	Allowed         int `json:"allowed"`
	Limited         int `json:"limited"` // of those that are allowed
	Used            int `json:"used"`
	Unused          int `json:"unused"`
	NotKnown        int `json:"not_known"`
}

// Client is a client of the review. Reaches is the number of servers that it may reach.
type Client struct {
	Name     string `json:"name"`
	Role     string `json:"role,omitempty"`
	Disabled bool   `json:"disabled"`
	// AnyServer: an allow-list of the client or its role holds "*", so servers that are
	// registered later count, too.
	AnyServer bool     `json:"any_server"`
	Policies  []string `json:"policies"`
	Reaches   int      `json:"reaches"`
	// Missing are its role and policies that do not exist, each as "role NAME" or "policy
	// NAME". With one of them it reaches nothing.
	Missing []string `json:"missing"`
	// Unregistered are the names in its allow-lists under which no server is registered.
	Unregistered []string `json:"unregistered"`
	LastUsed     string   `json:"last_used,omitempty"` // a day

	// rights are those that count, its own first.
	rights []policy.Rights
}

// Role is a role with the clients that have it.
type Role struct {
	Name           string   `json:"name"`
	Clients        int      `json:"clients"`
	AllowedServers []string `json:"allowed_servers"`
}

// Server is a server of the review. Clients is the number of clients that may reach it.
type Server struct {
	Name        string `json:"name"`
	Transport   string `json:"transport"`
	Description string `json:"description,omitempty"`
	Disabled    bool   `json:"disabled"`
	Clients     int    `json:"clients"`
}

// Pair is a client and a server with the decision of the enforcing evaluator.
type Pair struct {
	Client   string `json:"client"`
	Server   string `json:"server"`
	Allowed  bool   `json:"allowed"`
	Decision string `json:"decision"`         // a word of evaluate's
	Policy   string `json:"policy,omitempty"` // the policy whose entry decided
	// Limits are the rules that say which tools, prompts and resources of the server the
	// client may have. None: all of them.
	Limits []Limit `json:"limits,omitempty"`
	// Usage is used, unused or not-known, of a pair that is allowed.
	Usage    string `json:"usage,omitempty"`
	LastUsed string `json:"last_used,omitempty"` // a day
	// Tools are the listed tools that were called.
	Tools []string `json:"tools,omitempty"`
}

// Limit is a rule that concerns a pair.
type Limit struct {
	// List is the field with the rule, such as denied_tools.
	List string `json:"list"`
	// Rule is "" where a list of allowed items has no rule for the server: none is allowed.
	Rule string `json:"rule"`
	Role string `json:"role,omitempty"` // "": the client's own
}

// The state of knowledge about the use of a pair, in the days of the review.
const (
	Used     = "used"
	Unused   = "unused"    // on none of the days, of which each is complete
	NotKnown = "not-known" // a day is missing, or the client is younger than those days
)

// Command takes rights away that were not used.
type Command struct {
	For   string `json:"for"` // "client NAME" or "role NAME"
	Why   string `json:"why"`
	Shell string `json:"shell"`
}

// limited reports whether rules leave the client less than all of the server.
func (p *Pair) limited() bool { return p.Allowed && len(p.Limits) > 0 }
