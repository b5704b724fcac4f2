package vaultclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"
)

// ErrNoUsage: Vault answers, but takes no reports of usage.
var ErrNoUsage = errors.New("the engine, or the policy of the gateway's login, takes no reports of usage")

// UsageReport is the usage of one day, in the wire form.
type UsageReport struct {
	Gateway string                  `json:"gateway"`
	Day     string                  `json:"day"`
	Closed  bool                    `json:"closed"` // there will be no more of the day
	Lost    int                     `json:"lost"`   // the number of uses that the gateway could not keep
	Clients map[string]*ClientUsage `json:"clients"`
}

// ClientUsage is the usage of one client.
type ClientUsage struct {
	Tokens  []string            `json:"tokens,omitempty"` // accessors
	Servers map[string][]string `json:"servers,omitempty"`
}

// ReportUsage reports usage. When it returns without an error, all of it is in Vault, except
// for the refused rows, which Vault does not keep. The error is ErrNoUsage if Vault takes no
// reports from this gateway.
func (e *Engine) ReportUsage(ctx context.Context, report *UsageReport) (refused int, err error) {
	var answer struct {
		Refused int `json:"refused"`
	}
	err = e.report(ctx, "/gateway/usage", map[string]any{
		"gateway": report.Gateway, "day": report.Day, "closed": report.Closed, "lost": report.Lost, "clients": report.Clients,
	}, &answer)
	if isRefusedPath(err) {
		return 0, fmt.Errorf("%w: %w", ErrNoUsage, err)
	}
	return answer.Refused, err
}

// isRefusedPath reports whether Vault has no such path, or denies it.
func isRefusedPath(err error) bool {
	var refused *api.ResponseError
	if !errors.As(err, &refused) || IsInvalidToken(err) {
		return false
	}
	switch refused.StatusCode {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusForbidden:
		return true
	}
	return false
}

// unnamedFor is how long requests for changes are sent without the gateway's id after an engine
// of an earlier version has refused it.
const unnamedFor = 10 * time.Minute

// sender is the id with which a gateway asks for changes, so that the engine knows who was
// there.
type sender struct {
	id      string
	unnamed atomic.Int64 // Unix time until which it is left out
}

// For has the requests for changes carry the gateway's id.
func (e *Engine) For(gateway string) *Engine {
	e.sender.id = gateway
	return e
}

// name returns the id to send, "" for none.
func (s *sender) name(now time.Time) string {
	if now.Unix() < s.unnamed.Load() {
		return ""
	}
	return s.id
}

// refused reports whether the error is that of an engine that does not know the field. The
// next requests leave it out.
func (s *sender) refused(err error, now time.Time) bool {
	var refused *api.ResponseError
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusBadRequest {
		return false
	}
	for _, text := range refused.Errors {
		if strings.Contains(text, `unknown field "gateway"`) {
			s.unnamed.Store(now.Add(unnamedFor).Unix())
			return true
		}
	}
	return false
}
