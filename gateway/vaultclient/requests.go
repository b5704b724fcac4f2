package vaultclient

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/config"
)

const (
	// maxRequestTimeout bounds one request: engines may ask another system.
	maxRequestTimeout = 30 * time.Second

	// laterTries is how often a request is sent that Vault asks to send again.
	laterTries = 4
)

var laterPause = backoff.Backoff{Min: 100 * time.Millisecond, Max: time.Second}

// requester makes requests with tokens that are not the gateway's own. Nothing that may have
// had an effect in Vault is repeated.
type requester struct {
	client  *api.Client // without a token of its own
	timeout time.Duration
}

// newRequester returns a requester. The error is about the settings.
func newRequester(settings config.Vault, log hclog.Logger) (requester, error) {
	client, err := newAPIClient(settings.VaultClient, 0, log)
	if err != nil {
		return requester{}, err
	}
	timeout := settings.Timeout
	if timeout <= 0 || timeout > maxRequestTimeout {
		timeout = maxRequestTimeout
	}
	return requester{client: client, timeout: timeout}, nil
}

type request func(ctx context.Context, client *api.Client) (*api.Secret, error)

// do makes a request with the token, and repeats it while Vault asks for that.
func (r *requester) do(ctx context.Context, token string, ask request) (*api.Secret, error) {
	return r.doAt(ctx, nil, token, ask)
}

func (r *requester) doAt(ctx context.Context, node *url.URL, token string, ask request) (*api.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	client := r.client.WithRequestCallbacks(func(r *api.Request) {
		r.ClientToken = token
		if node != nil {
			r.URL.Scheme, r.URL.Host = node.Scheme, node.Host
		}
	})
	for tries := 1; ; tries++ {
		secret, err := ask(ctx, client)
		if !IsLater(err) || tries == laterTries || backoff.Sleep(ctx, laterPause.After(tries)) != nil {
			return secret, err
		}
	}
}

// maxSeconds bounds the times in Vault's answers: 100 years.
const maxSeconds = 100 * 365 * 24 * 60 * 60

// seconds is a duration in Vault's answers.
func seconds(n int) time.Duration { return time.Duration(min(max(n, 0), maxSeconds)) * time.Second }

// leader returns the address of the active node; nil if there is one node only, or Vault
// does not say.
func (r *requester) leader(ctx context.Context) *url.URL {
	node, err := r.findLeader(ctx)
	if err != nil {
		return nil
	}
	return node
}

// findLeader returns the address of the active node, nil if there is one node only, and an
// error if Vault does not say.
func (r *requester) findLeader(ctx context.Context) (*url.URL, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	answer, err := r.client.Sys().LeaderWithContext(ctx)
	if err != nil {
		return nil, err
	}
	if !answer.HAEnabled {
		return nil, nil
	}
	node, err := url.Parse(answer.LeaderAddress)
	if err != nil || node.Host == "" {
		return nil, errNoLeader
	}
	return node, nil
}

// errNoLeader: Vault's nodes have not elected one, or do not say which.
var errNoLeader = errors.New("Vault does not say which of its nodes is active") //nolint:staticcheck // a name starts it

// IsLater reports whether Vault asks for the same request again: a standby that lags
// behind, a limit of rate, or a change of the leader.
func IsLater(err error) bool {
	var refused *api.ResponseError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.StatusCode {
	case http.StatusPreconditionFailed, http.StatusTooManyRequests, 472, 473:
		return true
	}
	return false
}

// IsDenied reports whether Vault has denied a request.
func IsDenied(err error) bool {
	var refused *api.ResponseError
	return errors.As(err, &refused) && refused.StatusCode == http.StatusForbidden
}
