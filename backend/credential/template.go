package credential

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Names that no credential may have, since placeholders begin with them.
const (
	VaultName = "vault" // {{vault.token}}
	FileName  = "file"  // {{file.NAME}}
)

// Ref names a value: {"db", "password"}, {"gh", "data.token"}, {"vault", "token"},
// {"file", "KEY"}.
type Ref struct{ Name, Field string }

// String is the Ref as it stands in a template.
func (r Ref) String() string { return r.Name + "." + r.Field }

// Template is a text with placeholders: the value of a header or of an environment variable,
// or a file.
//
//	{{db.password}}               the field "password" of the credential "db"
//	{{gh.data.token}}             dots descend into objects
//	{{db.password|urlencode}}     with every character percent-encoded that a URL might read
//	{{a.user|basic:a.password}}   the base64 text of HTTP's Basic scheme
//	{{"{{"}}                      {{ itself
type Template struct {
	pieces []piece
}

// piece is a text, or a placeholder with its filter.
type piece struct {
	text   string
	ref    Ref // zero: it is a text
	filter string
	with   Ref // the argument of basic
}

// The filters.
const (
	filterURLEncode = "urlencode"
	filterBasic     = "basic"
)

// maxPlaceholders bounds how much longer a text gets by its values.
const maxPlaceholders = 64

// literalOpen stands for {{ itself, as in Go's templates.
const literalOpen = `"{{"}}`

// Parse reads a template. Its errors name a mistake by its position, or quote text within
// placeholders, which is never secret.
func Parse(text string) (*Template, error) {
	t, placeholders := &Template{}, 0
	for {
		before, rest, found := strings.Cut(text, "{{")
		t.literal(before)
		if !found {
			return t, nil
		}
		if after, literal := strings.CutPrefix(rest, literalOpen); literal {
			t.literal("{{")
			text = after
			continue
		}
		inside, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return nil, errUnclosed
		}
		p, err := parsePlaceholder(inside)
		if err != nil {
			return nil, err
		}
		if placeholders++; placeholders > maxPlaceholders {
			return nil, fmt.Errorf("has more than %d placeholders", maxPlaceholders)
		}
		t.pieces = append(t.pieces, p)
		text = after
	}
}

var (
	errUnclosed = errors.New(`has {{ without }}: write {{"{{"}} for {{ itself`)
	errSyntax   = errors.New(`has a placeholder that cannot be read: write {{NAME.FIELD}}, such as {{db.password}}, or {{"{{"}} for {{ itself`)
)

// literal appends a text, and joins it to one before it.
func (t *Template) literal(text string) {
	if text == "" {
		return
	}
	if last := len(t.pieces) - 1; last >= 0 && t.pieces[last].ref == (Ref{}) {
		t.pieces[last].text += text
		return
	}
	t.pieces = append(t.pieces, piece{text: text})
}

func parsePlaceholder(inside string) (piece, error) {
	reference, filter, filtered := strings.Cut(inside, "|")
	ref, err := parseRef(reference)
	if err != nil {
		return piece{}, err
	}
	p := piece{ref: ref}
	if !filtered {
		return p, nil
	}
	name, argument, hasArgument := strings.Cut(trim(filter), ":")
	switch name = trim(name); {
	case strings.Contains(filter, "|"):
		return piece{}, fmt.Errorf("has two filters in {{%s|…}}: one is allowed", ref)
	case name == filterURLEncode && !hasArgument:
	case name == filterURLEncode:
		return piece{}, fmt.Errorf("has an argument after urlencode in {{%s|…}}, which takes none", ref)
	case name == filterBasic && !hasArgument:
		return piece{}, fmt.Errorf("has basic without a password in {{%s|…}}: write {{%s|basic:NAME.FIELD}}", ref, ref)
	case name == filterBasic:
		if p.with, err = parseRef(argument); err != nil {
			return piece{}, err
		}
	default:
		return piece{}, fmt.Errorf("has a filter that is not known in {{%s|…}}: use urlencode or basic:NAME.FIELD", ref)
	}
	p.filter = name
	return p, nil
}

func trim(text string) string { return strings.Trim(text, " \t") }

var (
	nameForm  = regexp.MustCompile(`^[a-z]([a-z0-9_]*[a-z0-9])?$`)
	fieldForm = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
	fileForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

// Bounds of names.
const (
	maxName  = 32
	maxField = 128
	maxFile  = 64
)

// CheckName refuses a text that is not a valid name of a credential.
func CheckName(name string) error {
	switch {
	case name == VaultName || name == FileName:
		return fmt.Errorf("%q is reserved for {{%s}}: choose another name", name, map[string]string{VaultName: "vault.token", FileName: "file.NAME"}[name])
	case !isName(name):
		return fmt.Errorf("%q is not a valid name of a credential: use lower-case letters, digits and _, with a letter first and no _ at the end, at most %d characters", name, maxName)
	}
	return nil
}

// CheckFileName refuses a text that is not a valid name of a server's file.
func CheckFileName(name string) error {
	if !isFile(name) {
		return fmt.Errorf("%q is not a valid name of a file: use letters, digits and . _ - with a letter or digit first, at most %d characters", name, maxFile)
	}
	return nil
}

func isName(name string) bool { return len(name) <= maxName && nameForm.MatchString(name) }
func isFile(name string) bool { return len(name) <= maxFile && fileForm.MatchString(name) }

func parseRef(text string) (Ref, error) {
	name, field, _ := strings.Cut(trim(text), ".")
	ref := Ref{Name: name, Field: field}
	switch {
	case !isName(name):
		return Ref{}, errSyntax
	case field == "" && name == VaultName:
		return Ref{}, errors.New("has {{vault}} without a field: write {{vault.token}}")
	case field == "" && name == FileName:
		return Ref{}, errors.New("has {{file}} without a name: write {{file.NAME}} with a name of files")
	case field == "":
		return Ref{}, fmt.Errorf("has {{%s}} without a field: write {{%s.FIELD}}, such as {{%s.password}}", name, name, name)
	case name == VaultName && field != "token":
		return Ref{}, errors.New("has a placeholder of vault that is not known: write {{vault.token}}")
	case name == FileName && !isFile(field), name != FileName && (len(field) > maxField || !fieldForm.MatchString(field)):
		return Ref{}, errSyntax
	}
	return ref, nil
}

// Static reports whether the template has no placeholder.
func (t *Template) Static() bool {
	return !slices.ContainsFunc(t.pieces, func(p piece) bool { return p.ref != Ref{} })
}

// Refs are all references, those of filters too, in their order and each once.
func (t *Template) Refs() []Ref {
	var refs []Ref
	for _, p := range t.pieces {
		for _, r := range []Ref{p.ref, p.with} {
			if r != (Ref{}) && !slices.Contains(refs, r) {
				refs = append(refs, r)
			}
		}
	}
	return refs
}

// Render puts values into the template. Its errors name the placeholder.
func (t *Template) Render(value func(Ref) (string, error)) (string, error) {
	var out strings.Builder
	for _, p := range t.pieces {
		if p.ref == (Ref{}) {
			out.WriteString(p.text)
			continue
		}
		text, err := p.render(value)
		if err != nil {
			return "", err
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

func (p *piece) render(value func(Ref) (string, error)) (string, error) {
	text, err := value(p.ref)
	if err != nil {
		return "", fmt.Errorf("{{%s}}: %w", p.ref, err)
	}
	switch p.filter {
	case filterURLEncode:
		return percentEncode(text), nil
	case filterBasic:
		password, err := value(p.with)
		if err != nil {
			return "", fmt.Errorf("{{%s}}: %w", p.with, err)
		}
		if strings.Contains(text, ":") {
			return "", fmt.Errorf("{{%s}}: it has a colon, which no user name of the Basic scheme may hold", p.ref)
		}
		return base64.StdEncoding.EncodeToString([]byte(text + ":" + password)), nil
	}
	return text, nil
}

// percentEncode encodes everything but RFC 3986's unreserved characters, so that the value
// is read alike in every part of a URL.
func percentEncode(text string) string {
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(text) {
		c := text[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0:
			out.WriteByte(c)
		default:
			out.WriteByte('%')
			out.WriteByte(hex[c>>4])
			out.WriteByte(hex[c&15])
		}
	}
	return out.String()
}
