// Package credential has the forms in which a registered server asks for credentials: the
// Vault path that one is read from (Spec), and the texts that its fields are put into
// (Template). The engine checks both at every write, and the gateway resolves and renders
// them, so that both read them in the same way. The package is pure: it does no I/O.
//
// No error names a value, neither one from a text nor one that is put into it. A value may
// be a secret.
package credential

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// How a credential is asked for.
const (
	MethodRead  = "read"  // Vault's GET
	MethodWrite = "write" // Vault's PUT, for paths such as pki/issue/ROLE
)

// DefaultRefresh is how often a secret without a lease is read again if the Spec says nothing.
const DefaultRefresh = 5 * time.Minute

// Bounds of a Spec. Every gateway keeps it, and every request for the credential has it.
const (
	maxPath      = 512     // bytes, before and after its placeholders are replaced
	maxData      = 32      // in number
	maxDataName  = 128     // bytes
	maxDataValue = 8 << 10 // bytes
	maxRefresh   = 24 * time.Hour
)

// Spec says where a credential comes from.
type Spec struct {
	Path    string            `json:"path"`
	Method  string            `json:"method,omitempty"`  // "" and MethodRead: GET; MethodWrite: PUT
	Data    map[string]string `json:"data,omitempty"`    // the body of a write
	Refresh int64             `json:"refresh,omitempty"` // seconds; 0: DefaultRefresh. Only for secrets without a lease
}

// Verb is the method by its name, which Method may leave out.
func (s Spec) Verb() string {
	if s.Method == "" {
		return MethodRead
	}
	return s.Method
}

// Check refuses a credential that a gateway could not or should not read.
func (s Spec) Check() error {
	if err := s.checkPath(); err != nil {
		return fmt.Errorf("its path %w", err)
	}
	switch {
	case s.Method != "" && s.Method != MethodRead && s.Method != MethodWrite:
		return fmt.Errorf("its method %q is not a method: use %s or %s", s.Method, MethodRead, MethodWrite)
	case len(s.Data) > 0 && s.Method != MethodWrite:
		return fmt.Errorf("its data needs method %s: Vault takes no data with a read", MethodWrite)
	case s.Refresh < 0 || s.Refresh > int64(maxRefresh/time.Second):
		return fmt.Errorf("its refresh is %d seconds: use 1s to %s, or leave it out for %s", s.Refresh, short(maxRefresh), short(DefaultRefresh))
	}
	return s.checkData()
}

// short writes whole hours and minutes without the zeros that follow.
func short(d time.Duration) string {
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}

func (s Spec) checkPath() error {
	parts, err := splitPlaceholders(s.Path)
	if err != nil {
		return err
	}
	var literal strings.Builder // the path with a letter in the place of each placeholder
	for _, p := range parts {
		if p.placeholder == "" {
			literal.WriteString(p.text)
			continue
		}
		if !strings.Contains(literal.String(), "/") {
			return fmt.Errorf("has {{%s}} in its first segment: name the mount, which no placeholder may choose", p.placeholder)
		}
		literal.WriteByte('x')
	}
	if strings.ContainsAny(literal.String(), "{}") {
		return errors.New("has a brace outside a placeholder: write {{client.alias}}, {{person.alias}} or {{client.metadata.KEY}}")
	}
	if len(s.Path) > maxPath {
		return fmt.Errorf("is %d bytes long: at most %d are allowed", len(s.Path), maxPath)
	}
	return checkLiteralPath(literal.String())
}

// reservedMounts are Vault's own. No secret of a server is there, and a token that
// reads there does more than to read a secret.
var reservedMounts = []string{"sys", "auth", "identity", "cubbyhole"}

// checkLiteralPath refuses a path without placeholders that Vault could read in another way
// than people do, and Vault's own mounts.
func checkLiteralPath(path string) error {
	switch {
	case path == "":
		return errors.New("is missing: write one such as database/creds/orders-ro")
	case !utf8.ValidString(path) || strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("has a control character, or one that cannot be printed")
	case strings.ContainsAny(path, `?#*+%\`):
		return errors.New(`has one of ? # * + % \, which no path to a secret may hold here`)
	case strings.HasPrefix(path, "/"):
		return errors.New("begins with /: begin with the mount, as in database/creds/orders-ro")
	case strings.HasSuffix(path, "/"):
		return errors.New("ends with /: name one secret, not a folder")
	case strings.Contains(path, "//"):
		return errors.New("has // in it: write one /")
	}
	segments := strings.Split(path, "/")
	for _, segment := range segments {
		if segment == "." || segment == ".." || strings.TrimSpace(segment) != segment {
			return errors.New("has a segment that is . or .., or that begins or ends with a space: write the path out")
		}
	}
	if len(segments) < 2 {
		return errors.New("is a mount alone: name what to read there, as in database/creds/orders-ro")
	}
	if slices.Contains(reservedMounts, strings.ToLower(segments[0])) {
		return fmt.Errorf("is below %s/, which is Vault's own: name a secrets engine's path", segments[0])
	}
	return nil
}

func (s Spec) checkData() error {
	if len(s.Data) > maxData {
		return fmt.Errorf("its data has %d entries: at most %d are allowed", len(s.Data), maxData)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Data)) {
		value := s.Data[name]
		switch {
		case name == "" || len(name) > maxDataName || strings.ContainsFunc(name, unicode.IsControl):
			return fmt.Errorf("its data has a name that is empty, that has a control character or that is longer than %d bytes", maxDataName)
		case len(value) > maxDataValue:
			return fmt.Errorf("its data has %d bytes in %q: at most %d are allowed", len(value), name, maxDataValue)
		case !utf8.ValidString(value):
			return fmt.Errorf("its data has bytes in %q that are not UTF-8", name)
		}
		if _, err := splitPlaceholders(value); err != nil {
			return fmt.Errorf("its data %q %w", name, err)
		}
	}
	return nil
}
