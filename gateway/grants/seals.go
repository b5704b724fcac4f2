package grants

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"vault-plugin-secrets-mcp/backend/kms"
	tokens "vault-plugin-secrets-mcp/backend/token"
	"vault-plugin-secrets-mcp/gateway/config"
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
	errNoSeals    = fmt.Errorf("%w: it is sealed, and the gateway's configuration has no block kms { }", ErrInactive)
	errUnsealed   = fmt.Errorf("%w: it is not sealed, and the gateway requires that", ErrInactive)
	errNoDataKey  = fmt.Errorf("%w: it is sealed under a data key that this mount does not have for the gateway's audience", ErrInactive)
	errForgedSeal = fmt.Errorf("%w: its seal does not open", ErrInactive)
)

// presented is a token as Vault knows it, with the id of the data key that it
// came sealed under, "" if it was not.
type presented struct {
	token   string
	dataKey string
}

// seals opens sealed tokens. Vault says which data keys there are, KMS unwraps
// them, and both again and again: a data key that either does not vouch for any
// longer opens nothing. Opening a token asks nobody.
type seals struct {
	settings config.KMS
	log      hclog.Logger
	client   kms.Unwrapper
	ring     *kms.Keyring

	known atomic.Pointer[map[string]*kms.WrappedKey] // by id, for our audience; nil until Vault has said
	wake  chan struct{}                              // there is something new in known
	told  map[string]string                          // what was last logged of each; of run alone
}

// newSeals returns nil where the configuration has no block kms { }.
func newSeals(settings *config.KMS, log hclog.Logger) (*seals, error) {
	if settings == nil {
		return nil, nil
	}
	client, err := kms.New(context.Background(), kms.Config{Region: settings.Region, Endpoint: settings.Endpoint})
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return sealsBy(settings, client, log), nil
}

func sealsBy(settings *config.KMS, client kms.Unwrapper, log hclog.Logger) *seals {
	return &seals{
		settings: *settings,
		log:      log,
		client:   client,
		// Asked for early, so that the answer is there within the period.
		ring: kms.NewKeyring(kms.Options{Period: settings.Refresh * 4 / 5, MaxStale: settings.MaxStale}),
		wake: make(chan struct{}, 1),
		told: map[string]string{},
	}
}

// open returns what Vault is to be asked about. The error wraps ErrInactive or
// ErrUnavailable.
func (s *seals) open(token string) (presented, error) {
	if !tokens.IsSealed(token) {
		if s != nil && s.settings.Required {
			return presented{}, errUnsealed
		}
		return presented{token: token}, nil
	}
	if s == nil {
		return presented{}, errNoSeals
	}
	id, err := tokens.SealedUnder(token)
	if err != nil {
		return presented{}, errForgedSeal
	}
	key, err := s.key(id)
	if err != nil {
		return presented{}, err
	}
	inner, err := key.Open(token)
	if err != nil {
		return presented{}, errForgedSeal
	}
	return presented{token: inner, dataKey: id}, nil
}

// vouch says whether the data key that a grant's token is sealed under is still
// good. The error wraps ErrInactive or ErrUnavailable.
func (s *seals) vouch(g *Grant) error {
	if g.dataKey == "" {
		return nil
	}
	if s == nil {
		return errNoSeals
	}
	_, err := s.key(g.dataKey)
	return err
}

// key returns a data key as far as it is known now.
func (s *seals) key(id string) (*tokens.SealingKey, error) {
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

// learn takes in what Vault says of the data keys.
func (s *seals) learn(list *dataKeyList) error {
	audience := cmp.Or(s.settings.Audience, list.Mount)
	known := make(map[string]*kms.WrappedKey, len(list.DataKeys))
	for id, entry := range list.DataKeys {
		wrapped, err := base64.StdEncoding.DecodeString(entry.Wrapped)
		if err != nil || entry.KeyARN == "" {
			return fmt.Errorf("data keys: %s is not what the engine's API promises", id)
		}
		// What is for another audience is not for this gateway to open, and KMS's
		// policy may well refuse it.
		if entry.Mount != list.Mount || entry.Audience != audience {
			s.log.Info("a data key is for another audience, and is left alone", "data_key", id, "audience", entry.Audience, "own_audience", audience)
			continue
		}
		known[id] = &kms.WrappedKey{ID: id, KeyARN: entry.KeyARN, Wrapped: wrapped, Mount: entry.Mount, Audience: entry.Audience}
	}
	s.known.Store(&known)
	s.ring.Keep(func(id string) bool { return known[id] != nil })
	wake(s.wake)
	return nil
}

// run has KMS unwrap what is new, and again what was unwrapped a while ago.
func (s *seals) run(ctx context.Context) {
	ticker := time.NewTicker(max(s.settings.Refresh/50, 10*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.wake:
		}
		s.refresh(ctx)
	}
}

func (s *seals) refresh(ctx context.Context) {
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
	_ = asking.Wait() // Held and Failure say what came of each
	for id := range *known {
		s.tell(id)
	}
	for id := range s.told {
		if (*known)[id] == nil {
			delete(s.told, id)
		}
	}
}

// tell logs what is new about a data key.
func (s *seals) tell(id string) {
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
	if s.told[id] == state {
		return
	}
	s.told[id] = state
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

// stats returns the present ones; s may be nil.
func (s *seals) stats() SealStats {
	var stats SealStats
	if s == nil {
		return stats
	}
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

// dataKeyList is the data keys' wire form.
type dataKeyList struct {
	Mount    string                  `json:"mount"`
	DataKeys map[string]dataKeyEntry `json:"data_keys"`
}

type dataKeyEntry struct {
	KeyARN   string `json:"key_arn"`
	Wrapped  string `json:"wrapped"`
	Mount    string `json:"mount"`
	Audience string `json:"audience"`
}
