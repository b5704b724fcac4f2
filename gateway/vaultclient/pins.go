package vaultclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/backend/pin"
)

var (
	// ErrNoPinReports: Vault answers, but takes no reports of definitions.
	ErrNoPinReports = errors.New("the engine, or the policy of the gateway's login, takes no reports of definitions of servers")

	// ErrPinReport: Vault takes reports, and not this one.
	ErrPinReport = errors.New("vault does not take the report")
)

// PinSet is the approvals of one server, in the wire form.
type PinSet struct {
	Set      string   `json:"set"`   // the ID of Approved
	Place    string   `json:"place"` // of the registration that they are for
	Approved *pin.Set `json:"approved"`
	Epoch    string   `json:"epoch"`
	Index    uint64   `json:"index"`
}

// PinReport has definitions of a server without an approval.
type PinReport struct {
	Place       string          `json:"place"` // of the registration
	Definitions []PinDefinition `json:"definitions"`
}

// PinDefinition is one definition, of which the engine computes the digest itself.
type PinDefinition struct {
	Kind pin.Kind `json:"kind"`
	Text string   `json:"text"` // JSON
}

// PinsReported counts the outcomes of the definitions of a report.
type PinsReported struct {
	Kept    int `json:"kept"`
	Known   int `json:"known"`   // they were there already
	Refused int `json:"refused"` // they cannot be approved, or their place or kind is not pinned any more
	Lost    int `json:"lost"`    // there is no room for them
}

// Pins reads the approvals of a server.
func (e *Engine) Pins(ctx context.Context, server string) (*PinSet, error) {
	var answer PinSet
	if err := e.read(ctx, "/gateway/pins/"+server, &answer); err != nil {
		return nil, fmt.Errorf("pins: %w", err)
	}
	return &answer, nil
}

// ReportPins reports definitions of a server. The error is ErrNoPinReports if Vault takes
// no reports about it from this gateway, and ErrPinReport if it will never take this one.
func (e *Engine) ReportPins(ctx context.Context, server string, report *PinReport) (*PinsReported, error) {
	var answer PinsReported
	err := e.report(ctx, "/gateway/pins/"+server, map[string]any{"place": report.Place, "definitions": report.Definitions}, &answer)
	switch {
	case err == nil:
		return &answer, nil
	case isRefusedPath(err):
		return nil, fmt.Errorf("%w: %w", ErrNoPinReports, err)
	case isRefusedRequest(err):
		return nil, fmt.Errorf("%w: %w", ErrPinReport, err)
	}
	return nil, err
}

// isRefusedRequest reports whether Vault refuses the content of the request, or its size.
func isRefusedRequest(err error) bool {
	var refused *api.ResponseError
	if !errors.As(err, &refused) {
		return false
	}
	return refused.StatusCode == http.StatusBadRequest || refused.StatusCode == http.StatusRequestEntityTooLarge
}
