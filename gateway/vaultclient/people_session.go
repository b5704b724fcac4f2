package vaultclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"
)

// wrapped is the token's name in the wrapped data.
const wrapped = "token"

// Wrap wraps the token, with itself, for ttl, and returns the wrapping token.
//
// https://developer.hashicorp.com/vault/api-docs/system/wrapping-wrap
func (p *People) Wrap(ctx context.Context, t *PersonToken, ttl time.Duration) (string, error) {
	answer, err := p.confirmed(ctx, t.secret, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		// The client is this request's alone: see doAt.
		client.SetWrappingLookupFunc(func(string, string) string { return strconv.Itoa(int(ttl / time.Second)) })
		return client.Logical().WriteWithContext(ctx, "sys/wrapping/wrap", map[string]any{wrapped: t.secret})
	}, http.StatusForbidden)
	if err != nil {
		return "", err
	}
	if answer == nil || answer.WrapInfo == nil || answer.WrapInfo.Token == "" {
		return "", errNoData
	}
	return answer.WrapInfo.Token, nil
}

// Unwrap returns the token that a wrapping token holds, and uses the wrapping token up. The
// error is [ErrUsed] if it was used before, or has ended.
//
// https://developer.hashicorp.com/vault/api-docs/system/wrapping-unwrap
func (p *People) Unwrap(ctx context.Context, wrapping string) (string, error) {
	answer, err := p.unwrap(ctx, wrapping)
	if hasStatus(err, http.StatusInternalServerError) {
		// Of two uses at the same time, Vault answers one like this. Asked again, it says that
		// the token was used.
		answer, err = p.unwrap(ctx, wrapping)
	}
	if IsRefused(err) || IsDenied(err) {
		return "", fmt.Errorf("%w: %w", ErrUsed, err)
	}
	if err != nil {
		return "", err
	}
	if answer != nil {
		if secret, ok := answer.Data[wrapped].(string); ok && secret != "" {
			return secret, nil
		}
	}
	return "", errNoData
}

func (p *People) unwrap(ctx context.Context, wrapping string) (*api.Secret, error) {
	return p.confirmed(ctx, wrapping, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().WriteWithContext(ctx, "sys/wrapping/unwrap", nil)
	}, http.StatusBadRequest, http.StatusForbidden)
}

// CredsRequest asks the engine for an access token.
type CredsRequest struct {
	Resource        string
	Application     string // its id
	ApplicationName string
	Login           string
	SignInEnds      time.Time // at the latest

	// AssertionID is spent until AssertionExpires: it gives one access token only. "": none
	// is.
	AssertionID      string
	AssertionExpires time.Time
}

// Creds is an access token with the engine's facts about it.
type Creds struct {
	Token       string        `json:"token"`
	Accessor    string        `json:"accessor"`
	Client      string        `json:"client"`
	ClientID    string        `json:"client_id"`
	Resource    string        `json:"resource"`
	Application string        `json:"application"`
	Login       string        `json:"login"`
	Person      string        `json:"person"`
	EntityID    string        `json:"entity_id"`
	SignIn      string        `json:"sign_in"`
	Life        time.Duration `json:"-"` // from the request's sending on
}

// String keeps the token out of logs.
func (c *Creds) String() string { return "<access token " + c.Accessor + ">" }

// GoString does the same for %#v.
func (c *Creds) GoString() string { return c.String() }

// errUnbound: the engine has not bound the token to the requested resource, application
// and login.
var errUnbound = errors.New("the engine has issued a token without the resource, the application or the login that were asked for: it is older than this gateway. The token has been revoked")

// Credentials leases an access token of a client, as the person.
func (p *People) Credentials(ctx context.Context, t *PersonToken, client string, r CredsRequest) (*Creds, error) {
	body := map[string]any{"resource": r.Resource, "application": r.Application, "login": r.Login}
	for field, value := range map[string]string{
		"application_name":  r.ApplicationName,
		"sign_in_ends":      rfc3339(r.SignInEnds),
		"assertion_id":      r.AssertionID,
		"assertion_expires": rfc3339(r.AssertionExpires),
	} {
		if value != "" {
			body[field] = value
		}
	}
	answer, err := p.confirmed(ctx, t.secret, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().WriteWithContext(ctx, p.CredsPath(client), body)
	}, http.StatusForbidden)
	if err != nil {
		return nil, err
	}
	if answer == nil || answer.Data == nil {
		return nil, errNoData
	}
	creds := &Creds{Life: seconds(answer.LeaseDuration)}
	if err := decode(answer.Data, creds); err != nil {
		return nil, err
	}
	if creds.Token == "" || creds.Resource != r.Resource || creds.Application != r.Application || creds.Login != r.Login {
		p.abandon(ctx, t) // the token's lease ends with it
		return nil, errUnbound
	}
	return creds, nil
}

// CredsPath is where the engine leases tokens of a client: the path of which a person's
// policies grant update.
func (p *People) CredsPath(client string) string { return p.mount + "/creds/" + client }

func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// generations is where a token keeps the generations of its sign-in: in its own cubbyhole,
// which nobody else reads, and which ends with it. Each generation has a key of its own, and
// the highest is the present one. So a write that comes late cannot set it back.
const generations = "cubbyhole/mcp-sign-in"

// Generation returns the present generation, and when it began; 0 if there is none.
func (p *People) Generation(ctx context.Context, t *PersonToken) (n uint64, at time.Time, err error) {
	answer, err := p.confirmed(ctx, t.secret, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().ListWithContext(ctx, generations)
	}, http.StatusForbidden)
	if err != nil || answer == nil {
		return 0, time.Time{}, err
	}
	var list struct {
		Keys []string `json:"keys"`
	}
	if err := decode(answer.Data, &list); err != nil {
		return 0, time.Time{}, err
	}
	for _, key := range list.Keys {
		if found, err := strconv.ParseUint(key, 10, 64); err == nil {
			n = max(n, found)
		}
	}
	if n == 0 {
		return 0, time.Time{}, nil
	}
	at, err = p.generationTime(ctx, t, n)
	return n, at, err
}

// errGenerationGone: a key was listed and cannot be read. Others have begun two generations since,
// or the node that was asked lags behind. Nothing follows about the refresh token.
var errGenerationGone = errors.New("Vault has listed a generation of the sign-in that it does not have any more") //nolint:staticcheck // a name starts it

// generationTime returns when a generation began; zero if that is not known.
func (p *People) generationTime(ctx context.Context, t *PersonToken, n uint64) (time.Time, error) {
	answer, err := p.confirmed(ctx, t.secret, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().ReadWithContext(ctx, generationKey(n))
	}, http.StatusForbidden)
	switch {
	case err != nil:
		return time.Time{}, err
	case answer == nil:
		return time.Time{}, errGenerationGone
	}
	text, _ := answer.Data["rotated_at"].(string)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		at = time.Time{} // it has no grace then
	}
	return at, nil
}

// SetGeneration begins a generation. It removes entries that no generation needs any more;
// whether that succeeds does not matter.
func (p *People) SetGeneration(ctx context.Context, t *PersonToken, n uint64, at time.Time) error {
	_, err := p.confirmed(ctx, t.secret, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().WriteWithContext(ctx, generationKey(n), map[string]any{"rotated_at": at.UTC().Format(time.RFC3339Nano)})
	}, http.StatusForbidden)
	if err != nil || n <= kept {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, abandonTimeout)
	defer cancel()
	_, _ = p.do(ctx, t.secret, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().DeleteWithContext(ctx, generationKey(n-kept))
	})
	return nil
}

// kept is the number of generations that stay in the cubbyhole: the present one is never
// alone, so that a list that lags behind has one, too.
const kept = 2

func generationKey(n uint64) string { return generations + "/" + strconv.FormatUint(n, 10) }
