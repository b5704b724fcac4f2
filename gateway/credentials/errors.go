package credentials

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// The reasons why credentials cannot be read, for logs and metrics.
const (
	FailureOff         = "off"         // the gateway's file has no block upstream_credentials
	FailurePath        = "path"        // the path cannot be made for this client, or the gateway's file does not allow it
	FailureDenied      = "denied"      // Vault's policies do not allow it
	FailureNotFound    = "not-found"   // there is nothing at the path
	FailureUnavailable = "unavailable" // Vault, or the engine, does not answer
	FailureSealed      = "sealed"
	FailureIdentity    = "identity" // Vault's answer is not for the one identity that was meant
	FailureValue       = "value"    // the answer lacks the field, or its value cannot be sent
	FailureBound       = "bound"    // one of the gateway's own bounds
	FailureEnded       = "ended"    // access was taken away meanwhile
)

// Error says why credentials cannot be had. It names paths and fields, never a value.
type Error struct {
	Failure    string // one of the above
	Credential string // its name in the registration; "" if it concerns all
	Path       string // in Vault; "" if none was asked
	Err        error
	RetryAfter time.Duration // 0: nothing is known
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("upstream credentials: ")
	if e.Credential != "" {
		fmt.Fprintf(&b, "%s: ", e.Credential)
	}
	if e.Path != "" {
		fmt.Fprintf(&b, "%s: ", e.Path)
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// failed makes the error of a request to Vault. Vault's own words are kept only where they
// say more than the status: an engine may repeat a value in them.
func failed(credential, path string, err error) *Error {
	e := &Error{Credential: credential, Path: path, Failure: FailureUnavailable, Err: errUnreachable}
	var refused *api.ResponseError
	switch {
	case errors.Is(err, vaultclient.ErrNoSecret):
		e.Failure, e.Err = FailureNotFound, vaultclient.ErrNoSecret
	case errors.As(err, &refused):
		e.Failure, e.Err = failureOf(refused)
	case errors.Is(err, vaultclient.ErrNotLoggedIn):
		e.Err = vaultclient.ErrNotLoggedIn
	}
	return e
}

var (
	errUnreachable = errors.New("Vault cannot be reached, or does not answer in time")
	errDenied      = errors.New("permission denied: no policy of the token allows it")
	errSealed      = errors.New("Vault is sealed, or has no active node")
	errLater       = errors.New("Vault asks to come back later")
	errEngine      = errors.New("the engine has failed to make the credential") // with the status
	errRefused     = errors.New("Vault refuses the request: see Vault's own log, or")
)

func failureOf(refused *api.ResponseError) (failure string, err error) {
	switch status := refused.StatusCode; {
	case status == http.StatusForbidden:
		return FailureDenied, errDenied
	case status == http.StatusNotFound:
		return FailureNotFound, vaultclient.ErrNoSecret
	case status == http.StatusServiceUnavailable, hasNoLeader(refused):
		return FailureSealed, errSealed
	case vaultclient.IsLater(refused):
		return FailureUnavailable, errLater
	case status >= 500:
		return FailureUnavailable, fmt.Errorf("%w: status %d", errEngine, status)
	default:
		return FailureNotFound, fmt.Errorf("%w read the path by hand: status %d", errRefused, status)
	}
}

// hasNoLeader reports whether a standby has found no active node, which Vault says with a 500.
func hasNoLeader(refused *api.ResponseError) bool {
	return slices.ContainsFunc(refused.Errors, func(text string) bool { return strings.Contains(text, "active cluster node not found") })
}
