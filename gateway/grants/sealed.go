package grants

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"vault-plugin-secrets-mcp/backend/kms"
	tokens "vault-plugin-secrets-mcp/backend/token"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

const (
	// kmsInFlight bounds the requests to KMS at a time.
	kmsInFlight = 4

	// dataKeysAlone is how often the data keys are fetched from Vault while the
	// change feed does not tell of new ones.
	dataKeysAlone = 10 * time.Second
)

// Why a token is not even asked about. To the client each is a bad token like
// any other.
var (
	errNoKMS      = fmt.Errorf("%w: it is sealed, and the gateway's configuration has no block kms { }", ErrInactive)
	errUnsealed   = fmt.Errorf("%w: it is not sealed, and the gateway requires that", ErrInactive)
	errNoDataKey  = fmt.Errorf("%w: it is sealed under a data key that this mount does not have for the gateway's audience", ErrInactive)
	errForgedSeal = fmt.Errorf("%w: its seal does not open", ErrInactive)
)

// newOpener returns the opener for the block kms { }, nil where there is none.
func newOpener(settings *config.KMS, log hclog.Logger) (opener, error) {
	if settings == nil {
		return plainTokens{}, nil
	}
	client, err := kms.New(context.Background(), kms.Config{Region: settings.Region, Endpoint: settings.Endpoint})
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return newSealedTokens(settings, client, log), nil
}

// plainTokens is the opener without a block kms { }: sealed tokens are refused.
type plainTokens struct{}

func (plainTokens) open(token string) (vaultclient.UnsealedToken, error) {
	if tokens.IsSealed(token) {
		return vaultclient.UnsealedToken{}, errNoKMS
	}
	return vaultclient.UnsealedToken{Token: token}, nil
}

func (plainTokens) checkDataKey(string) error    { return errNoKMS }
func (plainTokens) keysChanged()                 {}
func (plainTokens) run(context.Context, *Broker) {}
func (plainTokens) stats() SealStats             { return SealStats{} }

// sealedTokens opens sealed tokens. Vault says which data keys there are, and KMS
// unwraps them. Both are asked again and again: a data key that one of them no longer
// confirms opens nothing. Opening a token asks nobody.
type sealedTokens struct {
	settings config.KMS
	log      hclog.Logger
	client   kms.Unwrapper
	ring     *kms.Keyring

	known  atomic.Pointer[map[string]*kms.WrappedKey] // by id, for our audience; nil until Vault has said
	news   chan struct{}                              // there is something new in known
	fetch  chan struct{}                              // Vault may have other data keys
	logged map[string]string                          // the last state logged of each; of runUnwrap alone
}

func newSealedTokens(settings *config.KMS, client kms.Unwrapper, log hclog.Logger) *sealedTokens {
	return &sealedTokens{
		settings: *settings,
		log:      log,
		client:   client,
		// Asked for early, so that the answer is there within the period.
		ring:   kms.NewKeyring(kms.Options{Period: settings.Refresh * 4 / 5, MaxStale: settings.MaxStale}),
		news:   make(chan struct{}, 1),
		fetch:  make(chan struct{}, 1),
		logged: map[string]string{},
	}
}

func (s *sealedTokens) open(token string) (vaultclient.UnsealedToken, error) {
	if !tokens.IsSealed(token) {
		if s.settings.Required {
			return vaultclient.UnsealedToken{}, errUnsealed
		}
		return vaultclient.UnsealedToken{Token: token}, nil
	}
	id, err := tokens.SealedUnder(token)
	if err != nil {
		return vaultclient.UnsealedToken{}, errForgedSeal
	}
	key, err := s.key(id)
	if err != nil {
		return vaultclient.UnsealedToken{}, err
	}
	inner, err := key.Open(token)
	if err != nil {
		return vaultclient.UnsealedToken{}, errForgedSeal
	}
	return vaultclient.UnsealedToken{Token: inner, DataKey: id}, nil
}

func (s *sealedTokens) checkDataKey(id string) error {
	_, err := s.key(id)
	return err
}

func (s *sealedTokens) keysChanged() { wake(s.fetch) }

// key returns a data key as far as it is known now.
func (s *sealedTokens) key(id string) (*tokens.SealingKey, error) {
	known := s.known.Load()
	if known == nil {
		return nil, fmt.Errorf("%w: the data keys have not been read yet", ErrUnavailable)
	}
	if (*known)[id] == nil {
		return nil, errNoDataKey
	}
	key, err := s.ring.Held(id)
	switch {
	case err == nil:
		return key, nil
	case kms.Refused(err):
		return nil, fmt.Errorf("%w: %w", ErrInactive, err)
	}
	return nil, fmt.Errorf("%w: data key %s: %w", ErrUnavailable, id, err)
}

// setDataKeys takes the data keys that Vault has.
func (s *sealedTokens) setDataKeys(list *vaultclient.DataKeyList) error {
	audience := cmp.Or(s.settings.Audience, list.Mount)
	known := make(map[string]*kms.WrappedKey, len(list.DataKeys))
	for id, entry := range list.DataKeys {
		wrapped, err := base64.StdEncoding.DecodeString(entry.Wrapped)
		if err != nil || entry.KeyARN == "" {
			return fmt.Errorf("data keys: %s does not follow the engine's API", id)
		}
		// This gateway need not open a key for another audience, and KMS's policy may
		// well refuse it.
		if entry.Mount != list.Mount || entry.Audience != audience {
			s.log.Info("a data key is for another audience, and is left alone", "data_key", id, "audience", entry.Audience, "own_audience", audience)
			continue
		}
		known[id] = &kms.WrappedKey{ID: id, KeyARN: entry.KeyARN, Wrapped: wrapped, Mount: entry.Mount, Audience: entry.Audience}
	}
	s.known.Store(&known)
	s.ring.Keep(func(id string) bool { return known[id] != nil })
	wake(s.news)
	return nil
}

func (s *sealedTokens) run(ctx context.Context, b *Broker) {
	var running sync.WaitGroup
	running.Go(func() { s.runFetch(ctx, b) })
	running.Go(func() { s.runUnwrap(ctx) })
	running.Wait()
}

// runFetch fetches the wrapped data keys whenever they may have changed.
func (s *sealedTokens) runFetch(ctx context.Context, b *Broker) {
	fetch := func(ctx context.Context) error {
		list, err := b.engine.DataKeys(ctx)
		if err != nil {
			return err
		}
		return s.setDataKeys(list)
	}
	b.refetch(ctx, "data keys", s.fetch, fetch, func() time.Duration {
		if b.position.Load().synced {
			return keysInterval
		}
		return dataKeysAlone
	})
}

// runUnwrap has KMS unwrap new data keys, and known ones again after a while.
func (s *sealedTokens) runUnwrap(ctx context.Context) {
	ticker := time.NewTicker(max(s.settings.Refresh/50, 10*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.news:
		}
		s.refresh(ctx)
	}
}

func (s *sealedTokens) refresh(ctx context.Context) {
	known := s.known.Load()
	if known == nil {
		return
	}
	var asking errgroup.Group
	asking.SetLimit(kmsInFlight)
	for id, w := range *known {
		if s.ring.Due(id) {
			asking.Go(func() error {
				s.ring.Refresh(ctx, s.client, w)
				return nil
			})
		}
	}
	_ = asking.Wait() // Held and Failure have the result for each
	for id := range *known {
		s.logState(id)
	}
	for id := range s.logged {
		if (*known)[id] == nil {
			delete(s.logged, id)
		}
	}
}

// logState logs a change of a data key's state.
func (s *sealedTokens) logState(id string) {
	_, err := s.ring.Held(id)
	failure := s.ring.Failure(id)
	state := "good"
	switch {
	case kms.Refused(err):
		state = "refused"
	case err != nil && !errors.Is(err, kms.ErrUnknownKey):
		state = "lost"
	case err == nil && failure != nil:
		state = "unanswered"
	}
	if s.logged[id] == state {
		return
	}
	s.logged[id] = state
	switch state {
	case "refused":
		s.log.Error("AWS KMS refuses a data key: tokens sealed under it are refused until it unwraps the key again", "data_key", id, "error", err)
	case "lost":
		s.log.Error("AWS KMS does not unwrap a data key: tokens sealed under it cannot be checked", "data_key", id, "error", err)
	case "unanswered":
		s.log.Error("AWS KMS does not answer: tokens sealed under a data key are accepted for a while without", "data_key", id,
			"until", s.ring.Confirmed(id).Add(s.settings.MaxStale).UTC().Format(time.RFC3339), "error", failure)
	default:
		s.log.Info("AWS KMS has unwrapped a data key", "data_key", id)
	}
}

// SealStats is a look at the data keys, for metrics.
type SealStats struct {
	DataKeys  int       // that Vault has for the gateway's audience
	Usable    int       // of these
	Confirmed time.Time // when KMS last confirmed the one it confirmed the longest ago
}

func (s *sealedTokens) stats() SealStats {
	var stats SealStats
	known := s.known.Load()
	if known == nil {
		return stats
	}
	stats.DataKeys = len(*known)
	for id := range *known {
		if _, err := s.ring.Held(id); err != nil {
			continue
		}
		stats.Usable++
		if at := s.ring.Confirmed(id); stats.Confirmed.IsZero() || at.Before(stats.Confirmed) {
			stats.Confirmed = at
		}
	}
	return stats
}
