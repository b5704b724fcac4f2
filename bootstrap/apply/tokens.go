package apply

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/hashicorp/vault/api"
)

// The record stores, beside a client, the state of its token:
//
//   - notKept, while one is being issued: a run that ends before the token is in
//     its file leaves this behind, and the next run issues another;
//   - a digest of access_token_ciphertext, of which the engine does not say
//     whether it is the current token;
//   - a fingerprint of an access_token that the engine hands out sealed, since a
//     lookup knows the sealed form alone.
const notKept = "not-kept"

// brings reports whether the file brings the client's token.
func (c *client) brings() bool { return c.accessToken != "" || c.ciphertext != "" }

// signedInto reports whether the client gets no token of its own: people sign in as it, and
// the file brings none.
func (c *client) signedInto() bool { return c.fields["sign_in"] == true && !c.brings() }

// tokenFields are the fields of a write of the token.
func (c *client) tokenFields() map[string]any {
	switch {
	case c.accessToken != "":
		return map[string]any{"access_token": c.accessToken}
	case c.ciphertext != "":
		return map[string]any{"access_token_ciphertext": c.ciphertext}
	}
	return map[string]any{}
}

// digest is a short form of a text that is not secret.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// tokenLine describes the change to the token of an existing client; "" for none. current
// reports whether the token in the file is the client's.
func (s *session) tokenLine(c client, have map[string]any, held string, current bool) string {
	if have["disabled"] == true && c.fields["disabled"] != false {
		return "" // the engine says of no token that it is good, until the client is enabled
	}
	switch {
	case c.ciphertext != "" && held != digest(c.ciphertext):
		return "~ access_token_ciphertext (its content is never shown)"
	case c.accessToken != "":
		if current || sameSecrets(held, c.accessToken) {
			return ""
		}
		return "~ access_token (it is never shown)"
	case !c.brings() && !c.signedInto() && held == notKept && s.TokenDir != "":
		return "~ token (the one that was issued never arrived: another is issued)"
	}
	return ""
}

// replaceToken has the client's token replaced, by the one that the file brings or
// by one that the engine issues. The old one lives on for the mount's grace_period.
func (s *session) replaceToken(ctx context.Context, c client, p *step) error {
	secret, err := s.put(ctx, "rotate-client/"+c.name, c.tokenFields())
	if err != nil {
		return err
	}
	return s.keepToken(ctx, c, secret, p)
}

// keepToken writes the token of an answer to its file, unless it came from a file, and notes
// its state for the record.
func (s *session) keepToken(ctx context.Context, c client, secret *api.Secret, p *step) error {
	token := ""
	if secret != nil {
		token, _ = secret.Data["token"].(string)
	}
	p.fingerprint = ""
	switch {
	case c.ciphertext != "":
		p.fingerprint = digest(c.ciphertext)
	case c.accessToken != "" && token != "" && token != c.accessToken:
		sealed, err := fingerprint(c.accessToken)
		if err != nil {
			return err
		}
		p.fingerprint = sealed
	}
	switch {
	case token == c.accessToken && c.brings(), token == "" && (c.brings() || c.signedInto()):
		return nil
	case s.TokenDir == "":
		s.tell("its token was not kept: get one with `vault write -f %s/rotate-client/%s`, or let Vault Agent read %s/creds/%s",
			s.Mount, c.name, s.Mount, c.name)
		return nil
	case token == "": // the answer to a write that Vault's client repeated
		return s.replaceToken(ctx, c, p)
	}
	path, err := writeSecret(s.TokenDir, c.name, token)
	if err != nil {
		return fmt.Errorf("its token could not be kept: %w", err)
	}
	s.tell("its token is in %s", path)
	return nil
}
