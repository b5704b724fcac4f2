package vaultclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/backend/clock"
	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/config"
)

const (
	// loginTimeout bounds one attempt to log in.
	loginTimeout = 10 * time.Second

	// refusedTries is the number of refused logins after which the gateway waits for
	// new credentials. It waits for refusedPause, so that only few attempts count
	// towards Vault's lockout.
	refusedTries = 2
	refusedPause = 10 * time.Minute

	// credentialPoll is the time between two looks at the files of a failed login.
	credentialPoll = time.Second

	// renewTimeout bounds one attempt to renew.
	renewTimeout = 5 * time.Second

	// tokenFilePoll is the time between two looks at a token file.
	tokenFilePoll = 5 * time.Second
)

// loginBackoff is the time between two failed logins, unless Vault has refused them.
var loginBackoff = backoff.Backoff{Min: 250 * time.Millisecond, Max: 15 * time.Second}

// ErrNotLoggedIn: Vault has not accepted the gateway's login yet.
var ErrNotLoggedIn = errors.New("the gateway is not logged in to Vault")

// ownToken is a Vault token of the gateway itself.
type ownToken struct {
	token     string
	ttl       time.Duration // 0: does not expire
	renewable bool
	obtained  time.Time
	entity    string // id; "" without one

	ends    atomic.Int64 // unix nanoseconds; 0: never, or not known
	refused atomic.Bool  // Vault has said that it is invalid
}

// setLife notes how long the token lives, counted from the request that was sent then.
func (t *ownToken) setLife(sent time.Time, life time.Duration) {
	if life > 0 {
		t.ends.Store(sent.Add(life).UnixNano())
	}
}

// Login keeps the gateway logged in: it logs in, renews the token, and logs in again. Any
// goroutine may call its methods.
type Login struct {
	client    *api.Client // with the current token
	anonymous *api.Client // without a token, to log in
	method    method
	log       hclog.Logger

	mu      sync.Mutex
	token   *ownToken     // nil until the first login
	changed chan struct{} // closed, and replaced, with every change of token

	refused chan *ownToken // tokens that Vault has refused
}

// NewLogin returns a Login. Run logs in. The error is about the settings.
func NewLogin(settings config.Vault, log hclog.Logger) (*Login, error) {
	client, err := newAPIClient(settings.VaultClient, 0, log)
	if err != nil {
		return nil, err
	}
	anonymous, err := newAPIClient(settings.VaultClient, settings.MaxRetries, log)
	if err != nil {
		return nil, err
	}
	m, err := newMethod(settings.Auth)
	if err != nil {
		return nil, err
	}
	return &Login{
		client:    client,
		anonymous: anonymous,
		method:    m,
		log:       log,
		changed:   make(chan struct{}),
		refused:   make(chan *ownToken, 1),
	}, nil
}

// LoggedIn reports whether Vault has ever accepted the login.
func (l *Login) LoggedIn() bool { return l.current() != nil }

// Await waits until Vault has accepted the login once, or ctx is done.
func (l *Login) Await(ctx context.Context) error { return l.await(ctx, nil) }

// current returns the current token, or nil.
func (l *Login) current() *ownToken {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token
}

// await waits for a token other than used.
func (l *Login) await(ctx context.Context, used *ownToken) error {
	for {
		l.mu.Lock()
		current, changed := l.token, l.changed
		l.mu.Unlock()
		if current != nil && current != used {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// do makes a request. If Vault says that the gateway's token is invalid, do repeats the
// request once, after another login, which all such requests share.
func (l *Login) do(ctx context.Context, request func(*api.Client) error) error {
	used := l.current()
	if used == nil {
		return ErrNotLoggedIn
	}
	err := request(l.client)
	if !IsInvalidToken(err) {
		return err
	}
	select {
	case l.refused <- used:
	default: // another request has reported one already
	}
	if l.await(ctx, used) != nil {
		return fmt.Errorf("%w; a new login did not succeed in time", err)
	}
	return request(l.client)
}

// Run logs in, renews, and logs in again, until ctx is done.
func (l *Login) Run(ctx context.Context) {
	for {
		c, err := l.logIn(ctx)
		if err != nil {
			return // only when ctx is done
		}
		l.keepAlive(ctx, c)
		if ctx.Err() != nil {
			return
		}
	}
}

// logIn tries until it succeeds. Until then the old token stays in use.
func (l *Login) logIn(ctx context.Context) (*ownToken, error) {
	var used credentialHash
	for failures, refused := 0, 0; ; {
		if current := l.method.credentialHash(); current != used {
			used, failures, refused = current, 0, 0
		}
		loginCtx, cancel := context.WithTimeout(ctx, loginTimeout)
		c, err := l.method.login(loginCtx, l.anonymous)
		cancel()
		l.anonymous.ClearToken()
		if err == nil {
			l.log.Info("logged in to Vault", "method", l.method.name(), "ttl", c.ttl.String(), "renewable", c.renewable)
			l.use(c)
			return c, nil
		}
		failures++
		pause := loginBackoff.After(failures)
		if isRefusedLogin(err) {
			if refused++; refused >= refusedTries {
				pause = refusedPause
			}
		}
		l.log.Error("cannot log in to Vault: trying again, at once if the files of the login change",
			"method", l.method.name(), "in", pause.Round(time.Millisecond).String(), "error", explain(err))
		if err := l.waitForCredentials(ctx, pause, used); err != nil {
			return nil, err
		}
	}
}

// use replaces the token.
func (l *Login) use(c *ownToken) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.client.SetToken(c.token)
	l.token = c
	close(l.changed)
	l.changed = make(chan struct{})
}

// waitForCredentials waits for d, or less if the login's files change: until the next
// login would use other credentials than those used.
func (l *Login) waitForCredentials(ctx context.Context, d time.Duration, used credentialHash) error {
	for until := time.Now().Add(d); ; {
		left := time.Until(until)
		if left <= 0 || l.method.credentialHash() != used {
			return ctx.Err()
		}
		if err := backoff.Sleep(ctx, min(left, credentialPoll)); err != nil {
			return err
		}
	}
}

// isRefusedLogin reports whether Vault has checked the credentials of the login, and
// refused them. Vault counts that: after the fifth time it locks the role for a quarter
// of an hour, for every gateway that uses it.
//
// https://developer.hashicorp.com/vault/docs/concepts/user-lockout
func isRefusedLogin(err error) bool {
	var refused *api.ResponseError
	return errors.As(err, &refused) && refused.StatusCode == http.StatusBadRequest
}

// keepAlive renews c while that is possible, and returns when another login is due.
func (l *Login) keepAlive(ctx context.Context, c *ownToken) {
	if w, ok := l.method.(replaceable); ok {
		l.watch(ctx, c, w)
		return
	}
	const never = 24 * time.Hour // any time is good enough
	for life := c.ttl; ; {
		due := never
		if life > 0 {
			due = backoff.Jitter(life * 2 / 3)
		}
		if l.waitUnlessRefused(ctx, c, due) {
			return
		}
		if life == 0 {
			continue
		}
		if !c.renewable {
			return
		}
		if life = l.renew(ctx, c); life < c.ttl/2 {
			return // refused, or near the end of its max_ttl
		}
	}
}

// waitUnlessRefused waits, and reports true if c must be replaced at once.
func (l *Login) waitUnlessRefused(ctx context.Context, c *ownToken, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return true
		case <-timer.C:
			return false
		case refused := <-l.refused:
			if refused == c {
				Parent{c}.Refuse()
				l.log.Warn("Vault refuses the gateway's token: logging in again")
				// Vault would probably refuse an immediate login, too.
				if pause := loginBackoff.Min - time.Since(c.obtained); pause > 0 {
					_ = backoff.Sleep(ctx, pause)
				}
				return true
			}
		}
	}
}

// renew renews the current token, and returns its new time to live: 0 if Vault refuses,
// or if the token must have expired meanwhile.
func (l *Login) renew(ctx context.Context, c *ownToken) time.Duration {
	// The renewal was due at two thirds of its life. The last third is left for
	// further attempts.
	deadline := time.Now().Add(c.ttl / 3)
	pauses := backoff.Backoff{Min: loginBackoff.Min, Max: c.ttl / 10}
	for failures := 1; ; failures++ {
		sent := time.Now()
		renewCtx, cancel := context.WithTimeout(ctx, renewTimeout)
		secret, err := l.client.Auth().Token().RenewSelfWithContext(renewCtx, 0)
		cancel()
		if err == nil && secret != nil && secret.Auth != nil {
			life := seconds(secret.Auth.LeaseDuration)
			c.setLife(sent, life)
			return life
		}
		var refused *api.ResponseError
		if errors.As(err, &refused) && refused.StatusCode < 500 {
			l.log.Warn("Vault does not renew the gateway's token: logging in again", "error", explain(err))
			return 0
		}
		if clock.Reached(time.Now(), deadline) {
			return 0
		}
		l.log.Warn("cannot renew the gateway's token: trying again", "error", explain(err))
		if backoff.Sleep(ctx, pauses.After(failures)) != nil {
			return 0
		}
	}
}

// watch waits until the file has another token, or Vault refuses c.
func (l *Login) watch(ctx context.Context, c *ownToken, w replaceable) {
	for {
		if l.waitUnlessRefused(ctx, c, tokenFilePoll) || w.changed(c) {
			return
		}
	}
}

// explain makes the most common errors readable.
func explain(err error) string {
	if err == nil {
		return "an answer without data"
	}
	text := err.Error()
	var refused *api.ResponseError
	if errors.As(err, &refused) {
		text = fmt.Sprintf("%s %s: status %d: %s", refused.HTTPMethod, refused.URL, refused.StatusCode, strings.Join(refused.Errors, "; "))
		if refused.StatusCode == http.StatusServiceUnavailable {
			text += " (Vault is sealed, or no node is active)"
		}
	}
	const most = 500
	if len(text) > most {
		text = text[:most] + "…"
	}
	return text
}
