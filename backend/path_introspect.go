package backend

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/policy"
)

func (b *mcpBackend) pathIntrospect() []*framework.Path {
	return build(path{
		pattern: "introspect",
		fields: fields{
			"token":           tokenField,
			"token_type_hint": {Type: framework.TypeString, Description: "Ignored, as RFC 7662 allows: there is one type of token."},
		},
		anyField: true, // RFC 7662, section 2.1: a client may send parameters that the server does not know
		about:    "token",
		ops: operations{
			logical.UpdateOperation: {
				do: b.introspect, verb: "introspect",
				responses: map[int][]framework.Response{http.StatusOK: {{Description: "OK", MediaType: "application/json"}}},
			},
		},
		synopsis: "Token introspection as of RFC 7662.",
		help: `
For gateways other than the project's own: POST token=… as a form or as JSON, with
a Vault token as the bearer, and read the plain JSON that RFC 7662 describes.
sub is the client's name, client_id its unchanging id, jti the token's accessor,
scope the servers that it may reach by allowed_servers and the policies. Where the client
has a role, a rate limit, or rules about prompts or resources, rights has all its rules and
servers has those servers, while scope and allowed_servers are missing: a gateway that does
not read rights admits it to nothing. exp is missing if the token does not expire. aud is
the resource of a token that a sign-in has got: such a token is good there alone. For a
token that is not valid the answer is active=false and nothing else.`,
	})
}

// introspection is the answer of RFC 7662, section 2.2.
type introspection struct {
	Active    bool   `json:"active"`
	Scope     string `json:"scope,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	Username  string `json:"username,omitempty"`
	TokenType string `json:"token_type,omitempty"`
	Expires   int64  `json:"exp,omitempty"`
	Issued    int64  `json:"iat,omitempty"`
	Subject   string `json:"sub,omitempty"`
	ID        string `json:"jti,omitempty"`
	Audience  string `json:"aud,omitempty"`

	// Beyond the RFC, which allows more members. Either Rights and Servers are there, or Scope
	// and the lists that gateways of others have always read.
	Rights          []policy.Rights   `json:"rights,omitempty"`
	Servers         []string          `json:"servers,omitempty"`
	AllowedServers  []string          `json:"allowed_servers,omitempty"`
	AllowedTools    []string          `json:"allowed_tools,omitzero"`
	DeniedTools     []string          `json:"denied_tools,omitempty"`
	RateLimit       float64           `json:"rate_limit,omitempty"`
	RateBurst       int               `json:"rate_burst,omitempty"`
	TokenBoundCIDRs []string          `json:"token_bound_cidrs,omitempty"`
	Metadata        map[string]string `json:"metadata,omitempty"`
	Person          string            `json:"person,omitempty"`
	EntityID        string            `json:"entity_id,omitempty"`
	Application     string            `json:"application,omitempty"`
}

func (b *mcpBackend) introspect(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	secret, err := required(d, "token", "RFC 7662 requires it")
	if err != nil {
		return nil, err
	}
	f, err := b.find(ctx, req.Storage, secret)
	if err != nil {
		return nil, err
	}
	var servers []string
	if f != nil {
		if servers, err = b.reachable(ctx, req.Storage, f); err != nil {
			return nil, err
		}
	}
	body, err := json.Marshal(introspectionOf(f, servers))
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		logical.HTTPStatusCode:  http.StatusOK,
		logical.HTTPContentType: "application/json",
		logical.HTTPRawBody:     body,
	}}, nil
}

// reachable returns the servers that the token reaches: those of allowed_servers that the
// client's policy allows. If a policy applies, * stands for the registered servers, since
// the policy does not allow every server. A server that is disabled is not among them.
func (b *mcpBackend) reachable(ctx context.Context, s logical.Storage, f *activeToken) ([]string, error) {
	allowed := f.rights.servers()
	if f.policy.Digest() == "" || len(allowed) == 0 {
		return b.withoutDisabled(ctx, s, allowed)
	}
	all, err := b.allServers(ctx, s)
	if err != nil {
		return nil, err
	}
	if slices.Contains(allowed, check.AnyServer) {
		allowed = slices.Sorted(maps.Keys(all))
	}
	var reached []string
	for _, name := range allowed {
		subject := &policy.Server{Name: name} // not registered: a gateway of another kind may know it
		if e := all[name]; e != nil {
			if e.Disabled {
				continue
			}
			subject = e.subject(name)
		}
		if f.policy.Evaluate(subject).Allowed {
			reached = append(reached, name)
		}
	}
	return reached, nil
}

func introspectionOf(f *activeToken, servers []string) *introspection {
	if f == nil {
		return &introspection{}
	}
	c := f.client
	in := &introspection{
		Active:          true,
		ClientID:        c.ID,
		Username:        f.name,
		TokenType:       "Bearer",
		Issued:          f.info.IssuedAt.Unix(),
		Subject:         f.name,
		ID:              f.info.Accessor,
		RateLimit:       f.rights.limit.Rate,
		RateBurst:       f.rights.limit.Burst,
		TokenBoundCIDRs: c.TokenBoundCIDRs,
		Metadata:        c.Metadata,
	}
	if f.rights.plain() {
		in.Scope = strings.Join(servers, " ")
		in.AllowedServers, in.AllowedTools, in.DeniedTools = servers, c.AllowedTools, c.DeniedTools
	} else {
		in.AllowedTools, in.Rights, in.Servers = []string{}, f.rights.sources, servers
	}
	if !f.info.ExpiresAt.IsZero() {
		in.Expires = f.info.ExpiresAt.Unix()
	}
	if of := f.info.SignIn; of != nil {
		in.Audience, in.Person, in.EntityID, in.Application = of.Resource, of.Person, of.EntityID, of.Application
	}
	return in
}
