package apply

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"vault-plugin-secrets-mcp/backend/check"
)

// kmsSettings are how the mount uses AWS KMS: the fields that a file names.
type kmsSettings struct {
	at          place
	fields      map[string]any
	credentials map[string]any // the same, for fields that the engine never shows
}

// entry is config/kms as the engine would hold it, without the fields that no file names.
func (k *kmsSettings) entry() check.KMS {
	text := func(values map[string]any, field string) string {
		value, _ := values[field].(string)
		return strings.TrimSpace(value)
	}
	return check.KMS{
		KeyID: text(k.fields, "key_id"), Region: text(k.fields, "region"), Endpoint: text(k.fields, "endpoint"), Audience: text(k.fields, "audience"),
		AccessKey: text(k.credentials, "access_key"), SecretKey: text(k.credentials, "secret_key"), SessionToken: text(k.credentials, "session_token"),
	}
}

// planKMS configures KMS before anything is sealed or decrypted.
func (s *session) planKMS(ctx context.Context) error {
	want := s.desired.kms
	if want == nil {
		return nil
	}
	have, err := s.read(ctx, "config/kms")
	if err != nil {
		return err
	}
	p := &step{kind: kindKMS, name: s.Mount, is: verb(have), lines: differences(want.fields, have)}
	held := s.record.held[p.key()]
	p.fingerprint = held
	secrets := canonical(want.credentials)
	same := len(want.credentials) == 0 || sameSecrets(held, secrets)
	if !same {
		p.lines = append(p.lines, fmt.Sprintf("~ %s (never shown)", strings.Join(names(want.credentials), ", ")))
	}
	p.do = func(ctx context.Context) error {
		data := maps.Clone(want.fields)
		maps.Copy(data, want.credentials)
		_, err := s.put(ctx, "config/kms", data)
		if err == nil && !same {
			p.fingerprint, err = fingerprint(secrets)
		}
		return err
	}
	s.add(p)
	return nil
}
