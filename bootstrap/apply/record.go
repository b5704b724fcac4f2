package apply

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kinds of things that apply makes.
const (
	kindServer = "server"
	kindPolicy = "policy"
	kindClient = "client"
	// A role of clients. The kind "role" is Vault's own.
	kindClientRole = "client-role"
	kindACL        = "acl-policy"
	kindRole       = "role"
	kindMount      = "mount"
	kindKMS        = "kms"
)

// record is an ACL policy that grants nothing and lists the things that apply created.
// Vault has no other place that only an administrator of the mount can write and read. A
// line is "kind name", followed by other data about the thing.
type record struct {
	policy string            // its name in Vault
	held   map[string]string // "kind name" -> a fingerprint of its secrets, or a text described in tokens.go
}

const recordHead = `# Written by "mcp-bootstrap apply". It grants nothing: it remembers what apply
# created at %s/, so that it leaves alone what somebody else did.
#
`

func recordName(mount string) string {
	return "mcp-bootstrap-" + strings.ReplaceAll(mount, "/", "-")
}

func (s *session) readRecord(ctx context.Context) error {
	s.record = record{policy: recordName(s.Mount), held: map[string]string{}}
	text, err := s.vault.Sys().GetPolicyWithContext(ctx, s.record.policy)
	if err != nil {
		return fmt.Errorf("cannot read the record of earlier runs (the ACL policy %s): %w", s.record.policy, explain(err))
	}
	_, text, _ = strings.Cut(text, "#\n")
	for line := range strings.Lines(text) {
		words := strings.Fields(strings.TrimPrefix(line, "#"))
		switch len(words) {
		case 2:
			s.record.held[words[0]+" "+words[1]] = ""
		case 3:
			s.record.held[words[0]+" "+words[1]] = words[2]
		}
	}
	return nil
}

func (s *session) writeRecord(ctx context.Context) error {
	var text strings.Builder
	fmt.Fprintf(&text, recordHead, s.Mount)
	for _, key := range slices.Sorted(maps.Keys(s.record.held)) {
		text.WriteString(strings.TrimRight("# "+key+" "+s.record.held[key], " ") + "\n")
	}
	if err := s.vault.Sys().PutPolicyWithContext(ctx, s.record.policy, text.String()); err != nil {
		return fmt.Errorf("cannot write the record of this run (the ACL policy %s): %w", s.record.policy, explain(err))
	}
	return nil
}

// own reports whether apply created it.
func (r *record) own(p *step) bool {
	_, ok := r.held[p.key()]
	return ok
}

// Cost of a fingerprint: about a tenth of a second. Upstream credentials are
// random, as a rule; this is for those that are not.
const (
	fingerprintRounds = 210_000
	fingerprintSalt   = 16
	fingerprintLength = 32
)

// fingerprint stands for a server's secrets, which the engine never shows again,
// so that a run can report whether they changed.
func fingerprint(secrets string) (string, error) {
	salt := make([]byte, fingerprintSalt)
	_, _ = rand.Read(salt) // it never fails
	return fingerprintWith(salt, secrets)
}

func fingerprintWith(salt []byte, secrets string) (string, error) {
	key, err := pbkdf2.Key(sha512.New, secrets, salt, fingerprintRounds, fingerprintLength)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(slices.Clone(salt), key...)), nil
}

func sameSecrets(held, secrets string) bool {
	raw, err := base64.RawURLEncoding.DecodeString(held)
	if err != nil || len(raw) != fingerprintSalt+fingerprintLength {
		return false
	}
	again, err := fingerprintWith(raw[:fingerprintSalt], secrets)
	return err == nil && subtle.ConstantTimeCompare([]byte(held), []byte(again)) == 1
}
