package vaultclient

import (
	"encoding/json"
	"fmt"
	"time"

	"vault-plugin-secrets-mcp/backend/credential"
	"vault-plugin-secrets-mcp/backend/policy"
)

// UnsealedToken is a client's token as Vault knows it, after its seal was opened.
type UnsealedToken struct {
	Token   string
	DataKey string // id of the data key that it was sealed under; "": not sealed
}

// Lookup is the engine's answer about one token, with the fields that the gateway needs.
type Lookup struct {
	Active bool `json:"active"`

	// Epoch and Index show the age of the answer: it may lack every change with a
	// higher index in the same epoch.
	Epoch string `json:"epoch"`
	Index uint64 `json:"index"`

	// AnsweredAt is Vault's time. The gateway uses only differences to it, so the
	// two clocks may differ.
	AnsweredAt time.Time `json:"answered_at"`

	Client    string `json:"client"`
	ClientID  string `json:"client_id"`
	Accessor  string `json:"accessor"`
	ExpiresAt string `json:"expires_at"` // "": never
	Kind      string `json:"kind"`       // KindLeased, or another one

	// Metadata is the client's; UpstreamPolicies are the Vault policies of its upstream
	// credentials. Null: those of the gateway's file.
	Metadata         map[string]string `json:"metadata"`
	UpstreamPolicies []string          `json:"upstream_policies"`

	// Rights are those of the client itself and of its role. Null from an engine without them,
	// and where the three fields below say all; see [Lookup.Sources].
	Rights []policy.Rights `json:"rights"`

	AllowedServers []string `json:"allowed_servers"`
	AllowedTools   []string `json:"allowed_tools"` // null: unset
	DeniedTools    []string `json:"denied_tools"`

	RateLimit float64 `json:"rate_limit"` // requests a second; 0: no limit
	RateBurst int     `json:"rate_burst"`

	TokenBoundCIDRs []string `json:"token_bound_cidrs"`
	PolicyDigest    string   `json:"policy_digest"`
	DataKey         string   `json:"data_key"` // "": the token is not sealed

	// Of a token that a sign-in has got; "" of every other one. Resource is the only one that
	// the token is for (RFC 8707). Person is the name of the person's alias at the login, and
	// SignIn the accessor of their Vault token, which names the sign-in.
	Resource    string `json:"resource"`
	Application string `json:"application"`
	Person      string `json:"person"`
	Login       string `json:"login"`
	EntityID    string `json:"entity_id"`
	SignIn      string `json:"sign_in"`
}

// Sources are the sources of the client's rights.
func (l *Lookup) Sources() []policy.Rights {
	if l.Rights != nil {
		return l.Rights
	}
	return []policy.Rights{{Lists: policy.Lists{
		AllowedServers: l.AllowedServers, AllowedTools: l.AllowedTools, DeniedTools: l.DeniedTools,
	}}}
}

// KindLeased is the kind of a token that has a lease in Vault.
const KindLeased = "leased"

// ParseLookup reads the data of an answer. Without the field "active" it is an error: the
// gateway never guesses.
func ParseLookup(data []byte) (*Lookup, error) {
	var answer struct {
		Active *bool `json:"active"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, fmt.Errorf("lookup: the answer does not follow the engine's API: %w", err)
	}
	if answer.Active == nil {
		return nil, fmt.Errorf("lookup: the answer has no field \"active\": is the mount one of this engine?")
	}
	var l Lookup
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("lookup: the answer does not follow the engine's API: %w", err)
	}
	return &l, nil
}

// Change is one entry of the engine's change feed, in its wire form.
type Change struct {
	Index     uint64 `json:"index"`
	Type      string `json:"type"`
	Operation string `json:"operation"`
	Client    string `json:"client"`
	ClientID  string `json:"client_id"`
	Accessor  string `json:"accessor"`
	SignIn    string `json:"sign_in"` // that the token was leased in; "": in none
	Name      string `json:"name"`
}

// Changes is one answer of the feed.
type Changes struct {
	Epoch   string   `json:"epoch"`
	Index   uint64   `json:"index"` // the last change in the answer, or the head
	Reset   bool     `json:"reset"` // the changes up to Index are not known
	Changes []Change `json:"changes"`
}

// ServerList is the registry's wire form.
type ServerList struct {
	Servers  map[string]ServerEntry `json:"servers"`
	Pinned   map[string]ServerEntry `json:"pinned_servers"`     // those whose pins are enforced, which are not among the others
	Supplied map[string]ServerEntry `json:"credential_servers"` // those with credentials, files or Vault policies, in neither
	Disabled []string               `json:"disabled"`           // names of registered servers that are stopped
	Epoch    string                 `json:"epoch"`
	Index    uint64                 `json:"index"`
}

// ServerEntry is a server in the wire form of the registry.
type ServerEntry struct {
	ID        string            `json:"id"`
	Transport string            `json:"transport"`
	URL       string            `json:"url"`
	Command   string            `json:"command"`
	Args      []string          `json:"args"`
	Env       map[string]string `json:"env"`
	Headers   map[string]string `json:"headers"`
	Shared    bool              `json:"shared"`

	Credentials   map[string]credential.Spec `json:"credentials"`
	Files         map[string]string          `json:"files"`
	VaultPolicies []string                   `json:"vault_policies"`

	Pin      string   `json:"pin"`       // "": off
	PinKinds []string `json:"pin_kinds"` // null: all
	Place    string   `json:"place"`     // an id of where the server leads
	Pins     string   `json:"pins"`      // the ID of the approvals: see [Engine.Pins]
}

// SessionKeyList is the session keys' wire form.
type SessionKeyList struct {
	Current int                `json:"current_version"`
	Keys    map[int]SessionKey `json:"keys"` // by version
	MountID string             `json:"mount_id"`

	// RegistrationKey is the key for texts that must outlive every session key: base64, ""
	// from an engine that has none.
	RegistrationKey string `json:"registration_key"`
}

// SessionKey is one of them.
type SessionKey struct {
	Key string `json:"key"` // base64
}

// DataKeyList is the data keys' wire form.
type DataKeyList struct {
	Mount    string             `json:"mount"`
	DataKeys map[string]DataKey `json:"data_keys"` // by id
}

// DataKey is a data key as KMS has wrapped it.
type DataKey struct {
	KeyARN   string `json:"key_arn"`
	Wrapped  string `json:"wrapped"` // base64
	Mount    string `json:"mount"`
	Audience string `json:"audience"`
}

// Policy is an effective policy in the wire form of the engine's answer.
type Policy struct {
	Sources []policy.Source `json:"sources"`
}

// SignInList has the clients as which people may sign in, and the logins, in the wire form of
// the engine's answer.
type SignInList struct {
	Clients map[string]SignInClient `json:"clients"` // by name
	Logins  []string                `json:"logins"`  // names, in order
}

// SignInClient is a client as which people may sign in.
type SignInClient struct {
	ID          string   `json:"id"`
	Description string   `json:"description"` // "": none
	Servers     []string `json:"servers"`     // those that it reaches now, in order
	AllServers  bool     `json:"all_servers"` // also those that are registered later
}
