package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"vault-plugin-secrets-mcp/backend/policy"
)

// The bounds of a sign-in's own texts. Resource and application are in memory with every
// token that a sign-in has got.
const (
	maxLogins          = 32
	maxLoginName       = 32
	maxMountAccessor   = 128
	maxResource        = 512
	maxApplication     = 512
	maxApplicationName = 200 // in characters, as people count them
	maxPersonName      = 512
	maxAssertionID     = 256
)

var (
	loginNameForm     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	mountAccessorForm = regexp.MustCompile(`^auth_[A-Za-z0-9_.-]+$`)
)

// tokenMethodPrefix starts the accessor of Vault's token method. A person who may create
// tokens there under a role chooses the alias, so its aliases prove nothing about a person.
const tokenMethodPrefix = "auth_token_" //nolint:gosec // the start of an accessor, not of a token

// LoginName refuses a text that is not a valid name of a login. The name is a part of
// aliases, whose parts a colon separates.
func LoginName(name string) error {
	switch {
	case len(name) > maxLoginName:
		return fmt.Errorf("the login name is %d characters long: at most %d are allowed", len(name), maxLoginName)
	case !loginNameForm.MatchString(name):
		return fmt.Errorf("%q is not a valid login name: use lower-case letters, digits and - with a letter or digit at the start", name)
	}
	return nil
}

// checkLogins refuses logins that do not each name one auth mount of their own.
func checkLogins(p *Problems, logins map[string]string) {
	const field = "sign_in_logins"
	if len(logins) > maxLogins {
		p.add(field, "field %s: it has %d entries: at most %d are allowed", field, len(logins), maxLogins)
		return
	}
	names := map[string]string{} // by accessor
	for _, name := range slices.Sorted(maps.Keys(logins)) {
		p.wrap(field, LoginName(name))
		accessor := logins[name]
		switch other, taken := names[accessor]; {
		case strings.HasPrefix(accessor, tokenMethodPrefix):
			p.add(field, "field %s: %q is the accessor of Vault's token method, where a person who creates a token chooses its alias: name a mount at which people log in", field, accessor)
		case len(accessor) > maxMountAccessor || !mountAccessorForm.MatchString(accessor):
			p.add(field, "field %s: %q of login %q is not the accessor of an auth mount: write the one that `vault auth list` shows, such as auth_oidc_1a2b3c4d", field, shortened(accessor), name)
		case taken:
			p.add(field, "field %s: the logins %q and %q have the same accessor: one mount is one login", field, other, name)
		}
		names[accessor] = name
	}
}

// shortened cuts a value that is too long for a sentence.
func shortened(text string) string {
	if len(text) <= maxMountAccessor {
		return text
	}
	return strings.ToValidUTF8(text[:maxMountAccessor], "") + "…"
}

// Resource refuses a text that cannot be the resource of a token. A resource is an absolute
// URL without a fragment (RFC 8707, section 2). It is compared letter by letter, so it must
// be in canonical form, without a query and without a slash at its end.
func Resource(resource string) error {
	if len(resource) > maxResource {
		return fmt.Errorf("the URL is %d bytes long: at most %d are allowed", len(resource), maxResource)
	}
	u, err := url.Parse(resource)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("the URL is not valid: write it as https://host[:port]/path")
	case u.User != nil:
		return errors.New("the URL holds a user or a password: remove them")
	case strings.ContainsAny(resource, "?#"):
		return errors.New("the URL has a query or a fragment: remove it")
	case !isPrivateLink(resource):
		return errors.New("the URL is http to another machine: use https, or an address of this machine")
	case u.Path == "" || strings.HasSuffix(u.Path, "/"):
		return errors.New("the URL has no path, or a slash at its end: write it as https://host[:port]/path")
	}
	_, err = policy.Canonical(resource)
	return err
}

// Application refuses a text that cannot be the id of an application. It accepts the ids that
// OAuth allows for clients (RFC 6749, appendix A.1), except those with spaces.
func Application(id string) error {
	switch {
	case len(id) > maxApplication:
		return fmt.Errorf("the id is %d characters long: at most %d are allowed", len(id), maxApplication)
	case strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("the id has a character that is not allowed: use visible characters of ASCII, without spaces")
	}
	return nil
}

// ApplicationName returns the name of an application without the characters that a page or a
// terminal does not show as they are: control characters, and those that turn the direction of
// writing.
func ApplicationName(name string) (string, error) {
	clean := strings.TrimSpace(strings.Map(func(r rune) rune {
		if invisible(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(name, "")))
	if n := utf8.RuneCountInString(clean); n > maxApplicationName {
		return "", fmt.Errorf("the name is %d characters long: at most %d are allowed", n, maxApplicationName)
	}
	return clean, nil
}

// PersonName refuses the name of an alias that does not identify a person clearly in a log or
// on a page.
func PersonName(name string) error {
	switch {
	case name == "":
		return errors.New("it is empty")
	case len(name) > maxPersonName:
		return fmt.Errorf("it is %d bytes long: at most %d are allowed", len(name), maxPersonName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, invisible) || name != strings.TrimSpace(name):
		return errors.New("it has characters that cannot be seen, or spaces at its ends")
	}
	return nil
}

// invisible reports whether r is a control character, a format character such as those of
// bidirectional text, or a separator of lines.
func invisible(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp)
}

// AssertionID refuses a text that is too long for the id of an assertion. The issuer of
// assertions alone chooses its content.
func AssertionID(id string) error {
	if len(id) > maxAssertionID {
		return fmt.Errorf("the id is %d bytes long: at most %d are allowed", len(id), maxAssertionID)
	}
	return nil
}

// Time reads a point in time in the forms that Vault takes: RFC 3339, or seconds since 1970.
func Time(value any) (time.Time, error) {
	text := fmt.Sprint(value)
	switch v := value.(type) {
	case string:
		text = v
	case float64:
		text = strconv.FormatFloat(v, 'f', -1, 64)
	case json.Number:
		text = v.String()
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t.UTC(), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return time.Unix(n, 0).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%q is not a valid time: write 2026-11-30T12:00:00Z, or the seconds since 1970", shortened(text))
}
