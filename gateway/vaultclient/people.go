package vaultclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/gateway/config"
)

var (
	// ErrDead: the active node has said that Vault does not accept the token. It has ended,
	// its entity is disabled, or its policies do not let it look itself up.
	ErrDead = errors.New("Vault does not accept the token") //nolint:staticcheck // a name starts it

	// ErrUsed: the active node has said that the wrapping token was used before, or has ended.
	ErrUsed = errors.New("the wrapping token was used before, or has ended")

	// ErrRedirect: the role of the login does not list the redirect. Vault says so with an
	// empty URL.
	ErrRedirect = errors.New("the role in Vault does not list the redirect in allowed_redirect_uris")

	// ErrStateLost: Vault does not know the sign-in that this is the end of: it took too long,
	// it was finished before, or Vault has another active node since.
	ErrStateLost = errors.New("Vault does not know this sign-in any more") //nolint:staticcheck // a name starts it
)

// ErrNoRole: the role at which the token was got is gone, so Vault does not renew the token.
var ErrNoRole = errors.New("the role of the login does not exist any more")

// People makes requests with tokens of people, and of machines that sign in: never with the
// gateway's own. Its errors are of three kinds. The variables above, and those for which
// [IsDenied] or [IsRefused] is true, are the word of Vault's active node. All others mean
// that Vault could not be asked.
type People struct {
	requester
	mount string // of the engine
}

// NewPeople returns a People. The error is about the settings.
func NewPeople(settings config.Vault, log hclog.Logger) (*People, error) {
	r, err := newRequester(settings, log)
	if err != nil {
		return nil, err
	}
	return &People{requester: r, mount: settings.Mount}, nil
}

// PersonToken is a Vault token of a person or a machine, with Vault's data about it. A
// token from [NewPersonToken] does not have the data yet.
type PersonToken struct {
	secret string

	Accessor    string
	EntityID    string // "": none
	DisplayName string

	// Policies are the token's own, IdentityPolicies those of its entity and groups, and
	// External those by namespace.
	Policies         []string
	IdentityPolicies []string
	External         map[string][]string

	Batch     bool // it cannot be renewed or revoked
	Periodic  bool
	Renewable bool
	Uses      int // how often it may be used; 0: without bound

	TTL     time.Duration // that was left when Vault answered
	Created time.Time     // by Vault's clock
	Read    time.Time     // by Vault's clock, when it answered, up to a second late; zero: it did not say
}

// NewPersonToken returns a token of which nothing else is known.
func NewPersonToken(secret string) *PersonToken { return &PersonToken{secret: secret} }

// Secret returns the token itself.
func (t *PersonToken) Secret() string { return t.secret }

// String keeps the token out of logs.
func (t *PersonToken) String() string { return "<Vault token " + t.Accessor + ">" }

// GoString does the same for %#v.
func (t *PersonToken) GoString() string { return t.String() }

// Lookup asks Vault about a token. The error is [ErrDead] if the active node does not accept
// it.
func (p *People) Lookup(ctx context.Context, secret string) (*PersonToken, error) {
	answer, err := p.confirmed(ctx, secret, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Auth().Token().LookupSelfWithContext(ctx)
	}, http.StatusForbidden)
	if IsDenied(err) {
		return nil, fmt.Errorf("%w: %w", ErrDead, err)
	}
	if err != nil {
		return nil, err
	}
	if answer == nil || answer.Data == nil {
		return nil, errNoData
	}
	return personToken(secret, answer.Data)
}

// errNoData: Vault's answer lacks the data.
var errNoData = errors.New("Vault's answer has no data") //nolint:staticcheck // a name starts it

// personToken reads the answer of lookup-self.
//
// https://developer.hashicorp.com/vault/api-docs/auth/token#lookup-a-token-self
func personToken(secret string, data map[string]any) (*PersonToken, error) {
	var answer struct {
		Accessor    string              `json:"accessor"`
		Created     int64               `json:"creation_time"`
		DisplayName string              `json:"display_name"`
		EntityID    string              `json:"entity_id"`
		Expires     time.Time           `json:"expire_time"`
		External    map[string][]string `json:"external_namespace_policies"`
		Identity    []string            `json:"identity_policies"`
		Uses        int                 `json:"num_uses"`
		Period      int64               `json:"period"`
		Policies    []string            `json:"policies"`
		Renewable   bool                `json:"renewable"`
		TTL         int                 `json:"ttl"`
		Type        string              `json:"type"`
	}
	if err := decode(data, &answer); err != nil {
		return nil, err
	}
	if answer.Created <= 0 || answer.Type == "" {
		return nil, errors.New("Vault's answer about the token has no creation_time, or no type") //nolint:staticcheck // a name starts it
	}
	var read time.Time
	if !answer.Expires.IsZero() {
		read = answer.Expires.Add(-seconds(answer.TTL))
	}
	return &PersonToken{
		secret:   secret,
		Accessor: answer.Accessor, EntityID: answer.EntityID, DisplayName: answer.DisplayName,
		Policies: answer.Policies, IdentityPolicies: answer.Identity, External: answer.External,
		Batch: answer.Type == "batch", Periodic: answer.Period > 0,
		Renewable: answer.Renewable, Uses: answer.Uses,
		TTL: seconds(answer.TTL), Created: time.Unix(answer.Created, 0), Read: read,
	}, nil
}

// decode reads the data of an answer.
func decode(data map[string]any, answer any) error {
	raw, err := json.Marshal(data)
	if err == nil {
		err = json.Unmarshal(raw, answer)
	}
	if err != nil {
		return fmt.Errorf("the answer does not follow Vault's API: %w", err)
	}
	return nil
}

// Renew has the token live for increment from now on, be that longer or shorter than it would,
// and returns the time that Vault has granted.
func (p *People) Renew(ctx context.Context, t *PersonToken, increment time.Duration) (time.Duration, error) {
	answer, err := p.confirmed(ctx, t.secret, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Auth().Token().RenewSelfWithContext(ctx, int(increment/time.Second))
	}, http.StatusForbidden)
	if saysRoleGone(err) {
		return 0, fmt.Errorf("%w: %w", ErrNoRole, err)
	}
	if err != nil {
		return 0, err
	}
	if answer == nil || answer.Auth == nil {
		return 0, errNoData
	}
	return seconds(answer.Auth.LeaseDuration), nil
}

// saysRoleGone reports whether an auth method of Vault's does not renew for want of the role.
// Vault answers that with 500, as it does where something fails.
func saysRoleGone(err error) bool {
	var refused *api.ResponseError
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusInternalServerError {
		return false
	}
	for _, text := range refused.Errors {
		if strings.Contains(text, "does not exist during renewal") {
			return true
		}
	}
	return false
}

// Revoke ends the token with all its leases. A token that has ended is not an error.
func (p *People) Revoke(ctx context.Context, t *PersonToken) error {
	_, err := p.confirmed(ctx, t.secret, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return nil, client.Auth().Token().RevokeSelfWithContext(ctx, "")
	}, http.StatusForbidden)
	if IsInvalidToken(err) {
		return nil
	}
	return err
}

// Capabilities returns the token's capabilities at each of the paths.
func (p *People) Capabilities(ctx context.Context, t *PersonToken, paths []string) (map[string][]string, error) {
	answer, err := p.confirmed(ctx, t.secret, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().WriteWithContext(ctx, "sys/capabilities-self", map[string]any{"paths": paths})
	}, http.StatusForbidden)
	if err != nil {
		return nil, err
	}
	if answer == nil || answer.Data == nil {
		return nil, errNoData
	}
	found := make(map[string][]string, len(paths))
	for _, path := range paths {
		var one struct {
			Capabilities []string `json:"capabilities"`
		}
		if err := decode(map[string]any{"capabilities": answer.Data[path]}, &one); err != nil {
			return nil, err
		}
		found[path] = one.Capabilities
	}
	return found, nil
}

// confirmed makes a request with the token. An answer with one of the statuses counts only if
// it is the active node's: a standby may lag behind. If that node cannot be asked, the error
// is one that says so.
func (p *People) confirmed(ctx context.Context, token string, ask request, statuses ...int) (*api.Secret, error) {
	answer, err := p.do(ctx, token, ask)
	if !hasStatus(err, statuses...) {
		return answer, plain(err)
	}
	node, unknown := p.findLeader(ctx)
	switch {
	case unknown != nil:
		// Not wrapped: the text of a node that may lag behind decides nothing.
		return nil, fmt.Errorf("Vault has refused a request, and its active node could not be asked about that: %v", plain(unknown)) //nolint:staticcheck,errorlint // a name starts it
	case node != nil:
		answer, err = p.doAt(ctx, node, token, ask)
	}
	return answer, plain(err)
}

func hasStatus(err error, statuses ...int) bool {
	var refused *api.ResponseError
	if !errors.As(err, &refused) {
		return false
	}
	for _, status := range statuses {
		if refused.StatusCode == status {
			return true
		}
	}
	return false
}

// plain returns the error without the request's URL, in whose query a code may be.
func plain(err error) error {
	var refused *api.ResponseError
	var unreachable *url.Error
	switch {
	case errors.As(err, &refused):
		short := *refused
		if at, err := url.Parse(short.URL); err == nil {
			at.RawQuery = ""
			short.URL = at.String()
		} else {
			short.URL = ""
		}
		return &short
	case errors.As(err, &unreachable):
		return fmt.Errorf("Vault cannot be reached: %w", unreachable.Err) //nolint:staticcheck // a name starts it
	}
	return err
}

// IsRefused reports whether Vault or the engine has refused a request because of its content:
// it has judged the request, and would refuse it again.
func IsRefused(err error) bool { return hasStatus(err, http.StatusBadRequest) }
