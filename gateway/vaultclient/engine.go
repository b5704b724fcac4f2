package vaultclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/gateway/config"
)

// ErrNoFeed: Vault answers, but refuses requests for changes.
var ErrNoFeed = errors.New("the engine, or the policy of the gateway's login, has no change feed")

// ErrUnknownPolicy: the engine does not know the digest of a policy.
var ErrUnknownPolicy = errors.New("the engine does not know the policy")

// errOwnLimit: the gateway has reached its own limit, not Vault's.
var errOwnLimit = errors.New("the gateway has reached its own limit of requests to Vault: rate_limit of the block vault, or VAULT_RATE_LIMIT")

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 32 << 20

// Engine makes requests to the secrets engine. Every error of its methods means that the
// engine has not answered the question.
type Engine struct {
	login *Login
	mount string

	// Bounds from the settings: requests a second, and the time of each. The request
	// that waits for changes has none. Nil and 0: unbounded.
	limit   *rate.Limiter
	timeout time.Duration

	sender sender
}

// NewEngine returns the engine at the mount of the settings.
func NewEngine(login *Login, settings config.Vault) *Engine {
	e := &Engine{login: login, mount: settings.Mount, timeout: settings.Timeout}
	if settings.RateLimit > 0 {
		e.limit = rate.NewLimiter(rate.Limit(settings.RateLimit), settings.RateBurst)
	}
	return e
}

// Lookup asks about one token.
func (e *Engine) Lookup(ctx context.Context, token UnsealedToken) (*Lookup, error) {
	request := map[string]any{"token": token.Token}
	if token.DataKey != "" {
		request["data_key"] = token.DataKey
	}
	if err := e.await(ctx); err != nil {
		return nil, err
	}
	var answer *Lookup
	err := e.login.do(ctx, func(client *api.Client) error {
		// The token goes in the body, never in the path. The API client repeats
		// a body after a redirect to the active node only in this form.
		secret, err := client.Logical().WriteWithContext(ctx, e.mount+"/lookup", request)
		if err != nil {
			return err
		}
		if secret == nil {
			return errors.New("lookup: an answer without data")
		}
		data, err := json.Marshal(secret.Data)
		if err != nil {
			return err
		}
		answer, err = ParseLookup(data)
		return err
	})
	return answer, err
}

// Changes asks for the changes after index, and waits that long for one. The error is
// ErrNoFeed if Vault refuses the request.
func (e *Engine) Changes(ctx context.Context, epoch string, index uint64, wait time.Duration) (*Changes, error) {
	query := url.Values{"wait": {strconv.Itoa(int(wait.Round(time.Millisecond)/time.Millisecond)) + "ms"}}
	if epoch != "" {
		query.Set("epoch", epoch)
		query.Set("index", strconv.FormatUint(index, 10))
	}
	now := time.Now()
	if id := e.sender.name(now); id != "" {
		query.Set("gateway", id)
	}
	var answer Changes
	err := e.ask(ctx, "/changes", query, &answer)
	if e.sender.refused(err, now) {
		query.Del("gateway")
		err = e.ask(ctx, "/changes", query, &answer)
	}
	var refused *api.ResponseError
	if errors.As(err, &refused) && !IsInvalidToken(err) {
		switch refused.StatusCode {
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusBadRequest, http.StatusForbidden:
			return nil, fmt.Errorf("%w: %w", ErrNoFeed, err)
		}
	}
	if err != nil {
		return nil, err
	}
	if answer.Epoch == "" {
		return nil, errors.New("changes: the answer has no epoch")
	}
	return &answer, nil
}

// Servers reads the registry of servers.
func (e *Engine) Servers(ctx context.Context) (*ServerList, error) {
	var answer ServerList
	if err := e.read(ctx, "/gateway/servers", &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

// SessionKeys reads the keys that seal session ids.
func (e *Engine) SessionKeys(ctx context.Context) (*SessionKeyList, error) {
	var answer SessionKeyList
	if err := e.read(ctx, "/gateway/keys", &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

// SignIn reads the clients as which people may sign in, and the logins.
func (e *Engine) SignIn(ctx context.Context) (*SignInList, error) {
	var answer SignInList
	if err := e.read(ctx, "/gateway/sign-in", &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

// DataKeys reads the wrapped data keys.
func (e *Engine) DataKeys(ctx context.Context) (*DataKeyList, error) {
	var answer DataKeyList
	if err := e.read(ctx, "/gateway/data-keys", &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

// Policy reads the effective policy of a digest. The error is ErrUnknownPolicy if the
// engine does not know the digest: its policies have changed meanwhile.
func (e *Engine) Policy(ctx context.Context, digest string) (*Policy, error) {
	var answer Policy
	err := e.read(ctx, "/gateway/policies/"+digest, &answer)
	var refused *api.ResponseError
	if errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound {
		return nil, ErrUnknownPolicy
	}
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return &answer, nil
}

// await waits for the request's turn under the rate limit. It fails at once if that would
// come too late.
func (e *Engine) await(ctx context.Context) error {
	if e.limit == nil {
		return nil
	}
	if e.limit.Wait(ctx) != nil { // its own error would read as if Vault hung
		return errOwnLimit
	}
	return nil
}

// read reads a path below the mount into answer, within the settings' bounds.
func (e *Engine) read(ctx context.Context, path string, answer any) error {
	if e.timeout > 0 { // Vault's client does not bound raw answers
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.timeout)
		defer cancel()
	}
	if err := e.await(ctx); err != nil {
		return err
	}
	return e.ask(ctx, path, nil, answer)
}

// report writes a report of the gateway's, and reads the answer.
func (e *Engine) report(ctx context.Context, path string, fields map[string]any, answer any) error {
	if e.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.timeout)
		defer cancel()
	}
	if err := e.await(ctx); err != nil {
		return err
	}
	return e.login.do(ctx, func(client *api.Client) error {
		secret, err := client.Logical().WriteWithContext(ctx, e.mount+path, fields)
		if err != nil {
			return err
		}
		if secret == nil {
			return fmt.Errorf("%s: an answer without data", path)
		}
		data, err := json.Marshal(secret.Data)
		if err != nil {
			return err
		}
		return json.Unmarshal(data, answer)
	})
}

// ask is read, bounded by the context only.
func (e *Engine) ask(ctx context.Context, path string, query url.Values, answer any) error {
	return e.login.do(ctx, func(client *api.Client) error {
		response, err := client.Logical().ReadRawWithDataWithContext(ctx, e.mount+path, query)
		if err != nil {
			if response != nil {
				_ = response.Body.Close()
			}
			return err
		}
		defer func() { _ = response.Body.Close() }()
		return decodeData(response.Body, answer)
	})
}

// decodeData decodes the member "data" of Vault's answer.
func decodeData(body io.Reader, answer any) error {
	var wrapper struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(&wrapper); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	if len(wrapper.Data) == 0 || string(wrapper.Data) == "null" {
		return errors.New("the answer has no data")
	}
	if err := json.Unmarshal(wrapper.Data, answer); err != nil {
		return fmt.Errorf("the answer does not follow the engine's API: %w", err)
	}
	return nil
}

// IsInvalidToken reports whether Vault refused the gateway's own token, and not just the
// request. Both are 403; only the text differs.
func IsInvalidToken(err error) bool {
	var refused *api.ResponseError
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusForbidden {
		return false
	}
	for _, text := range refused.Errors {
		if strings.Contains(text, "invalid token") || strings.Contains(text, "bad token") {
			return true
		}
	}
	return false
}
