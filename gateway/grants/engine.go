package grants

import (
	"context"
	"encoding/base64"
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

// engine is the part of the engine's API that the gateway uses. An error means
// that it could not be asked, whatever the reason.
type engine interface {
	lookup(ctx context.Context, p presented) (*Lookup, error)
	changes(ctx context.Context, epoch string, index uint64, wait time.Duration) (*Changes, error)
	servers(ctx context.Context) (*serverList, error)
	sessionKeys(ctx context.Context) (*SessionKeys, error)
	dataKeys(ctx context.Context) (*dataKeyList, error)
	policy(ctx context.Context, digest string) (*policyAnswer, error)
}

// errUnsupported: Vault answers, but not to requests for changes.
var errUnsupported = errors.New("the engine, or the policy of the gateway's login, has no change feed")

// errOwnLimit: the gateway's own limit, not Vault's.
var errOwnLimit = errors.New("the gateway's own limit of requests to Vault is reached: rate_limit of the block vault, or VAULT_RATE_LIMIT")

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 32 << 20

// vault is the engine behind a real Vault.
type vault struct {
	session *session
	mount   string

	// What the settings bound, but for the request that is held for changes:
	// requests a second, and the time of each. Nil and 0: nothing.
	limit   *rate.Limiter
	timeout time.Duration
}

func newVault(s *session, options config.Vault) *vault {
	v := &vault{session: s, mount: options.Mount, timeout: options.Timeout}
	if options.RateLimit > 0 {
		v.limit = rate.NewLimiter(rate.Limit(options.RateLimit), options.RateBurst)
	}
	return v
}

// await waits for the request's turn under the rate limit. One whose turn does not
// come in time fails at once.
func (v *vault) await(ctx context.Context) error {
	if v.limit == nil {
		return nil
	}
	if v.limit.Wait(ctx) != nil { // its error would read as if Vault hung
		return errOwnLimit
	}
	return nil
}

func (v *vault) lookup(ctx context.Context, p presented) (*Lookup, error) {
	question := map[string]any{"token": p.token}
	if p.dataKey != "" {
		question["data_key"] = p.dataKey
	}
	if err := v.await(ctx); err != nil {
		return nil, err
	}
	var answer *Lookup
	err := v.session.do(ctx, func(client *api.Client) error {
		// The token goes in the body, never in the path. The API client repeats
		// a body after a redirect to the active node only in this form.
		secret, err := client.Logical().WriteWithContext(ctx, v.mount+"/lookup", question)
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
		answer, err = parseLookup(data)
		return err
	})
	return answer, err
}

func (v *vault) changes(ctx context.Context, epoch string, index uint64, wait time.Duration) (*Changes, error) {
	query := url.Values{"wait": {strconv.Itoa(int(wait.Round(time.Millisecond)/time.Millisecond)) + "ms"}}
	if epoch != "" {
		query.Set("epoch", epoch)
		query.Set("index", strconv.FormatUint(index, 10))
	}
	var answer Changes
	err := v.ask(ctx, "/changes", query, &answer)
	var refused *api.ResponseError
	if errors.As(err, &refused) && !isInvalidToken(err) {
		switch refused.StatusCode {
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusBadRequest, http.StatusForbidden:
			return nil, fmt.Errorf("%w: %w", errUnsupported, err)
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

func (v *vault) servers(ctx context.Context) (*serverList, error) {
	var answer serverList
	if err := v.read(ctx, "/gateway/servers", &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

func (v *vault) sessionKeys(ctx context.Context) (*SessionKeys, error) {
	var answer sessionKeyList
	if err := v.read(ctx, "/gateway/keys", &answer); err != nil {
		return nil, err
	}
	return answer.keys()
}

func (v *vault) dataKeys(ctx context.Context) (*dataKeyList, error) {
	var answer dataKeyList
	if err := v.read(ctx, "/gateway/data-keys", &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

func (v *vault) policy(ctx context.Context, digest string) (*policyAnswer, error) {
	var answer policyAnswer
	err := v.read(ctx, "/gateway/policies/"+digest, &answer)
	var refused *api.ResponseError
	if errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound {
		return nil, errOutdated
	}
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return &answer, nil
}

// read reads a path below the mount into answer, within the settings' bounds.
func (v *vault) read(ctx context.Context, path string, answer any) error {
	if v.timeout > 0 { // Vault's client bounds no raw answers
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, v.timeout)
		defer cancel()
	}
	if err := v.await(ctx); err != nil {
		return err
	}
	return v.ask(ctx, path, nil, answer)
}

// ask is read without bounds but the context's.
func (v *vault) ask(ctx context.Context, path string, query url.Values, answer any) error {
	return v.session.do(ctx, func(client *api.Client) error {
		response, err := client.Logical().ReadRawWithDataWithContext(ctx, v.mount+path, query)
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
		return fmt.Errorf("the answer is not what the engine's API promises: %w", err)
	}
	return nil
}

// sessionKeyList is the session keys' wire form.
type sessionKeyList struct {
	Current int `json:"current_version"`
	Keys    map[int]struct {
		Key string `json:"key"`
	} `json:"keys"`
	MountID string `json:"mount_id"`
}

func (l *sessionKeyList) keys() (*SessionKeys, error) {
	keys := &SessionKeys{Current: l.Current, Keys: make(map[int][SessionKeySize]byte, len(l.Keys)), MountID: l.MountID}
	for version, entry := range l.Keys {
		raw, err := base64.StdEncoding.DecodeString(entry.Key)
		if err != nil || len(raw) != SessionKeySize {
			return nil, fmt.Errorf("session keys: version %d is not %d bytes in base64", version, SessionKeySize)
		}
		keys.Keys[version] = [SessionKeySize]byte(raw)
	}
	if _, ok := keys.Keys[keys.Current]; !ok || keys.MountID == "" {
		return nil, errors.New("session keys: the answer has no current key, or no mount_id")
	}
	return keys, nil
}

// isInvalidToken reports whether Vault refused the gateway's own token, as
// opposed to what the token may do. Both are 403; only the text tells.
func isInvalidToken(err error) bool {
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
