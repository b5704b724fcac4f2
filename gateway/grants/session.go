package grants

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/gateway/config"
)

const (
	// loginTimeout bounds one attempt to log in.
	loginTimeout = 10 * time.Second

	loginBackoffMin = 250 * time.Millisecond
	loginBackoffMax = 15 * time.Second

	// renewTimeout bounds one attempt to renew.
	renewTimeout = 5 * time.Second

	// tokenFilePoll is how often a token file is looked at.
	tokenFilePoll = 5 * time.Second
)

// errNotLoggedIn: Vault has not accepted the gateway's login yet.
var errNotLoggedIn = errors.New("the gateway is not logged in to Vault")

// credential is one token of the gateway's own, as Vault gave it.
type credential struct {
	token     string
	ttl       time.Duration // 0: does not expire
	renewable bool
	obtained  time.Time
}

// session keeps the gateway logged in.
type session struct {
	client    *api.Client // with the present token
	anonymous *api.Client // to log in with
	method    method
	log       hclog.Logger

	mu      sync.Mutex
	present *credential   // nil until the first login
	changed chan struct{} // closed, and replaced, with every change of present

	invalid chan *credential // those that Vault has refused
}

func newSession(options config.Vault, log hclog.Logger) (*session, error) {
	client, err := newClient(options.VaultClient, 0, log)
	if err != nil {
		return nil, err
	}
	anonymous, err := newClient(options.VaultClient, options.MaxRetries, log)
	if err != nil {
		return nil, err
	}
	m, err := newMethod(options.Auth)
	if err != nil {
		return nil, err
	}
	return &session{
		client:    client,
		anonymous: anonymous,
		method:    m,
		log:       log,
		changed:   make(chan struct{}),
		invalid:   make(chan *credential, 1),
	}, nil
}

// current returns the present credential, or nil.
func (s *session) current() *credential {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.present
}

// await waits for a credential other than used.
func (s *session) await(ctx context.Context, used *credential) error {
	for {
		s.mu.Lock()
		present, changed := s.present, s.changed
		s.mu.Unlock()
		if present != nil && present != used {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// do makes a request. If Vault says that the gateway's token is invalid, it is
// made once more after another login, which all such requests share.
func (s *session) do(ctx context.Context, request func(*api.Client) error) error {
	used := s.current()
	if used == nil {
		return errNotLoggedIn
	}
	err := request(s.client)
	if !isInvalidToken(err) {
		return err
	}
	select {
	case s.invalid <- used:
	default: // somebody has said so already
	}
	if s.await(ctx, used) != nil {
		return fmt.Errorf("%w; a new login did not succeed in time", err)
	}
	return request(s.client)
}

// run logs in, renews, and logs in again, until ctx is done.
func (s *session) run(ctx context.Context) {
	for {
		c, err := s.login(ctx)
		if err != nil {
			return // only when ctx is done
		}
		s.keep(ctx, c)
		if ctx.Err() != nil {
			return
		}
	}
}

// login tries until it succeeds. Until then the old credential stays in place.
func (s *session) login(ctx context.Context) (*credential, error) {
	var presented evidence
	for attempt, refused := 0, 0; ; attempt++ {
		if shown := s.method.evidence(); shown != presented {
			presented, attempt, refused = shown, 0, 0
		}
		loginCtx, cancel := context.WithTimeout(ctx, loginTimeout)
		c, err := s.method.login(loginCtx, s.anonymous)
		cancel()
		s.anonymous.ClearToken()
		if err == nil {
			s.log.Info("logged in to Vault", "method", s.method.name(), "ttl", c.ttl.String(), "renewable", c.renewable)
			s.publish(c)
			return c, nil
		}
		pause := jitter(min(loginBackoffMin<<min(attempt, 10), loginBackoffMax))
		if isBadEvidence(err) {
			if refused++; refused >= refusedTries {
				pause = refusedPause
			}
		}
		s.log.Error("cannot log in to Vault: trying again, at once where the files of the login change",
			"method", s.method.name(), "in", pause.Round(time.Millisecond).String(), "error", explain(err))
		if err := s.sleepUnlessShown(ctx, pause, presented); err != nil {
			return nil, err
		}
	}
}

func (s *session) publish(c *credential) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client.SetToken(c.token)
	s.present = c
	close(s.changed)
	s.changed = make(chan struct{})
}

// keep renews c for as long as that is possible, and returns when another login
// is due.
func (s *session) keep(ctx context.Context, c *credential) {
	if w, ok := s.method.(watcher); ok {
		s.watch(ctx, c, w)
		return
	}
	const never = 24 * time.Hour // any time will do to look again
	for life := c.ttl; ; {
		due := never
		if life > 0 {
			due = jitter(life * 2 / 3)
		}
		if s.sleepUnlessInvalid(ctx, c, due) {
			return
		}
		if life == 0 {
			continue
		}
		if !c.renewable {
			return
		}
		if life = s.renew(ctx, c); life < c.ttl/2 {
			return // refused, or near the end of its max_ttl
		}
	}
}

// sleepUnlessInvalid waits, and reports true if c must be replaced at once.
func (s *session) sleepUnlessInvalid(ctx context.Context, c *credential, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return true
		case <-timer.C:
			return false
		case refused := <-s.invalid:
			if refused == c {
				s.log.Warn("Vault refuses the gateway's token: logging in again")
				// What was refused so soon after its login will be again.
				if pause := loginBackoffMin - time.Since(c.obtained); pause > 0 {
					_ = sleep(ctx, pause)
				}
				return true
			}
		}
	}
}

// renew renews the present token, and returns how long it lives from now on: 0
// if it was refused, or must have expired meanwhile.
func (s *session) renew(ctx context.Context, c *credential) time.Duration {
	// It was due at two thirds of its life: the last third is left for trying.
	deadline := time.Now().Add(c.ttl / 3)
	for attempt := 0; ; attempt++ {
		renewCtx, cancel := context.WithTimeout(ctx, renewTimeout)
		secret, err := s.client.Auth().Token().RenewSelfWithContext(renewCtx, 0)
		cancel()
		if err == nil && secret != nil && secret.Auth != nil {
			return time.Duration(secret.Auth.LeaseDuration) * time.Second
		}
		var refused *api.ResponseError
		if errors.As(err, &refused) && refused.StatusCode < 500 {
			s.log.Warn("Vault does not renew the gateway's token: logging in again", "error", explain(err))
			return 0
		}
		if reached(time.Now(), deadline) {
			return 0
		}
		s.log.Warn("cannot renew the gateway's token: trying again", "error", explain(err))
		if sleep(ctx, jitter(min(loginBackoffMin<<min(attempt, 10), c.ttl/10))) != nil {
			return 0
		}
	}
}

// watch waits until there is another token to be read, or c is refused.
func (s *session) watch(ctx context.Context, c *credential, w watcher) {
	for {
		if s.sleepUnlessInvalid(ctx, c, tokenFilePoll) || w.changed(c) {
			return
		}
	}
}

// explain makes the commonest reasons readable.
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
