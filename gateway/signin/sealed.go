package signin

import (
	"context"
	"encoding/json"
	"time"

	"vault-plugin-secrets-mcp/gateway/seal"
)

// The purposes of the texts that sign-in gives to others. A text that is sealed for one does
// not open for another.
const (
	purposeTransaction = seal.Transaction
	purposeChoice      = seal.Choice
	purposeConsent     = seal.Consent
	purposeCode        = seal.Code
	purposeRefresh     = seal.Refresh
)

// seal seals a value for a purpose, bound to the value that must come back with it.
func (h *Handler) seal(purpose seal.Purpose, bound []byte, value any) (string, error) {
	plain, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	return h.Sealer.Seal(purpose, bound, plain)
}

// open opens a value that seal has sealed. Where another gateway knows a newer key first, it
// fetches the keys and tries once more. The error is one of the package seal, or means that
// the keys could not be had.
func (h *Handler) open(ctx context.Context, purpose seal.Purpose, bound []byte, text string, value any) error {
	plain, err := seal.WithNewerKey(ctx, h.Broker.RefreshSessionKeys, func() ([]byte, error) { return h.Sealer.Open(purpose, bound, text) })
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, value)
}

const (
	// codeLife is how long a code is good: Vault ends its wrapping token then.
	codeLife = 60 * time.Second

	// skew is how far the clocks of two gateways, or of a gateway and Vault, may differ.
	skew = 60 * time.Second
)

// session is the common part of a code and a refresh token: the application, and the identity
// that it acts as.
type session struct {
	Accessor    string `json:"a"` // of the person's Vault token; names the sign-in
	Client      string `json:"c"` // hash of the client_id
	Application string `json:"i"` // its id
	Resource    string `json:"r"`
	Identity    string `json:"d"`
	Login       string `json:"l"`
	// The person, for the audit log alone: the engine relies on the person's Vault token. A
	// code has no name yet.
	Entity string `json:"y,omitempty"`
	Person string `json:"n,omitempty"`
}

// code is an authorization code (RFC 6749, section 1.3.1), sealed. The person's Vault token
// is not in it: Vault keeps that, and gives it once for the wrapping token.
type code struct {
	session
	Wrapping  string `json:"w"`
	Redirect  string `json:"u"`
	Challenge string `json:"p"` // PKCE's, of the method S256
	Expires   int64  `json:"e"` // unix
}

// refresh is a refresh token (RFC 6749, section 1.5), sealed. Its generation is compared with
// that in the cubbyhole of the person's Vault token.
type refresh struct {
	session
	Token      string `json:"t"` // the person's Vault token
	Generation uint64 `json:"g"`
	Ends       int64  `json:"e"` // of the sign-in, at the latest; unix
}

// refreshPrefix begins refresh tokens, so that people and scanners of files recognize one.
const refreshPrefix = "mcpr_"
