package apply

import (
	"context"
	"fmt"
	"maps"
	"strings"
)

// kmsSettings are how the mount uses AWS KMS: the fields that a file names.
type kmsSettings struct {
	source      string
	fields      map[string]any
	credentials map[string]any // the same, of what the engine never shows
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
