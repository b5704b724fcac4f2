package credential

import (
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// values are the fields with which the templates of these tests are rendered.
var values = map[Ref]string{
	{"db", "username"}: "u", {"db", "password"}: "p/ä %", {"gh", "data.token"}: "ghp", {"vault", "token"}: "hvs",
	{"file", "tls.key"}: "/home/x/tls.key", {"a", "user"}: "bob", {"a", "with_colon"}: "a:b", {"c", "ca-chain"}: "-----",
}

func lookUp(r Ref) (string, error) {
	v, ok := values[r]
	if !ok {
		return "", errors.New("has no such field")
	}
	return v, nil
}

func TestATemplateIsRendered(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "",
		"plain":                                 "plain",
		"{{db.username}}":                       "u",
		"{{ db.username }}":                     "u",
		"Bearer {{gh.data.token}}":              "Bearer ghp",
		"{{db.username}}:{{db.username}}":       "u:u",
		"pg://{{db.password|urlencode}}@h":      "pg://p%2F%C3%A4%20%25@h",
		"pg://{{ db.password | urlencode }}":    "pg://p%2F%C3%A4%20%25",
		"Basic {{a.user|basic:db.password}}":    "Basic " + base64.StdEncoding.EncodeToString([]byte("bob:p/ä %")),
		"{{ a.user | basic: db.password }}":     base64.StdEncoding.EncodeToString([]byte("bob:p/ä %")),
		"{{vault.token}}":                       "hvs",
		"--key={{file.tls.key}}":                "--key=/home/x/tls.key",
		"{{c.ca-chain}}\n{{db.username}}\n":     "-----\nu\n",
		`{"user":{"n":"{{db.username}}"}}`:      `{"user":{"n":"u"}}`,
		`{"n":{{db.username}}}`:                 `{"n":u}`,
		`{{"{{"}}.Time}}`:                       "{{.Time}}",
		`a{{"{{"}}db.username}}{{db.username}}`: "a{{db.username}}u",
		"}} { } }{":                             "}} { } }{",
	} {
		tmpl, err := Parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got, err := tmpl.Render(lookUp); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
		if static := len(tmpl.Refs()) == 0; tmpl.Static() != static {
			t.Errorf("%q: static is %v", text, tmpl.Static())
		}
	}
}

func TestATemplateTellsWhatItRefersTo(t *testing.T) {
	tmpl, err := Parse("{{a.user|basic:db.password}} {{gh.data.token}} {{a.user}} {{file.tls.key}}")
	want := []Ref{{"a", "user"}, {"db", "password"}, {"gh", "data.token"}, {"file", "tls.key"}}
	if err != nil || !slices.Equal(tmpl.Refs(), want) {
		t.Errorf("%v, %v", tmpl.Refs(), err)
	}
}

func TestATemplateThatCannotBeReadIsRefused(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"no end":                             {"s3cret {{db.password", "has {{ without }}"},
		"nothing in it":                      {"s3cret {{}}", "cannot be read: write {{NAME.FIELD}}"},
		"no field":                           {"{{db}}", "has {{db}} without a field: write {{db.FIELD}}"},
		"an empty field":                     {"{{db.}}", "without a field"},
		"an empty part of a field":           {"{{db.a..b}}", "cannot be read"},
		"a dot at the end":                   {"{{db.a.}}", "cannot be read"},
		"a name in capitals":                 {"{{DB.password}}", "cannot be read"},
		"a name that begins with a digit":    {"{{1db.password}}", "cannot be read"},
		"a name that ends with _":            {"{{db_.password}}", "cannot be read"},
		"a long name":                        {"{{" + strings.Repeat("a", 33) + ".b}}", "cannot be read"},
		"a long field":                       {"{{a." + strings.Repeat("b", 129) + "}}", "cannot be read"},
		"a space inside":                     {"{{db .password}}", "cannot be read"},
		"a slash":                            {"{{db.a/b}}", "cannot be read"},
		"a template of Go":                   {"{{.Time}}", `or {{"{{"}} for {{ itself`},
		"three braces":                       {"{{{db.password}}}", "cannot be read"},
		"a placeholder in another":           {"{{db.{{a.b}}}}", "cannot be read"},
		"a field of vault that there is not": {"{{vault.accessor}}", "write {{vault.token}}"},
		"vault alone":                        {"{{vault}}", "write {{vault.token}}"},
		"file alone":                         {"{{file}}", "write {{file.NAME}}"},
		"a file with a slash":                {"{{file.a/b}}", "cannot be read"},
		"a file that begins with a dot":      {"{{file..a}}", "cannot be read"},
		"an unknown filter":                  {"{{db.password|base64}}", "filter that is not known in {{db.password|…}}: use urlencode or basic"},
		"an empty filter":                    {"{{db.password|}}", "filter that is not known"},
		"a filter in capitals":               {"{{db.password|URLENCODE}}", "filter that is not known"},
		"two filters":                        {"{{db.password|urlencode|urlencode}}", "has two filters"},
		"urlencode with an argument":         {"{{db.password|urlencode:a.b}}", "takes none"},
		"basic without a password":           {"{{a.user|basic}}", "write {{a.user|basic:NAME.FIELD}}"},
		"basic with an empty one":            {"{{a.user|basic:}}", "cannot be read"},
		"basic with a name alone":            {"{{a.user|basic:db}}", "has {{db}} without a field"},
		"a filter without a value":           {"{{|urlencode}}", "cannot be read"},
		"too many placeholders":              {strings.Repeat("{{a.b}}", maxPlaceholders+1), "more than 64"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse(tc.text); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("refused: %v", err)
			}
		})
	}
}

func TestAValueThatCannotBeHadFailsByItsName(t *testing.T) {
	for text, want := range map[string]string{
		"{{db.nothing}}":                     "{{db.nothing}}: has no such field",
		"{{a.user|basic:db.nothing}}":        "{{db.nothing}}: has no such field",
		"{{a.with_colon|basic:db.password}}": "{{a.with_colon}}: it has a colon",
	} {
		tmpl, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tmpl.Render(lookUp); err == nil || got != "" || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "a:b") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestNamesOfCredentialsAndFiles(t *testing.T) {
	for _, name := range []string{"a", "db", "db_2", "a1", strings.Repeat("a", 32)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "vault", "file", "Db", "1a", "_a", "a_", "a-b", "a.b", "a b", "ä", strings.Repeat("a", 33)} {
		if CheckName(name) == nil {
			t.Errorf("%q names a credential", name)
		}
	}
	for _, name := range []string{"a", "KEY", "tls.key", "0-a_b"} {
		if err := CheckFileName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", ".", "..", ".ssh", "a/b", "-a", "a b", "a\n", strings.Repeat("a", 65)} {
		if CheckFileName(name) == nil {
			t.Errorf("%q names a file", name)
		}
	}
}

// FuzzTemplate: a template keeps every byte outside its placeholders, and the rendered
// text has the values; no value is read as a placeholder again.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"{{a.b}}", "x{{ a.b|urlencode }}y", "{{a.b|basic:c.d}}", `{{"{{"}}`, "{{vault.token}}{{file.x}}", "{{", "}}", "{{a.b}}}}"} {
		f.Add(text, "v")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		tmpl, err := Parse(text)
		if err != nil {
			if tmpl != nil {
				t.Error("a template and an error")
			}
			return
		}
		asked := []Ref{}
		got, err := tmpl.Render(func(r Ref) (string, error) {
			asked = append(asked, r)
			return value, nil
		})
		if err != nil {
			if !strings.Contains(value, ":") {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		for _, r := range asked {
			if !slices.Contains(tmpl.Refs(), r) {
				t.Errorf("%q asks for %v and does not tell", text, r)
			}
		}
		if tmpl.Static() {
			if want := strings.ReplaceAll(text, `{{"{{"}}`, "{{"); got != want || len(asked) > 0 {
				t.Errorf("%q: %q", text, got)
			}
		}
		if plain, _, found := strings.Cut(text, "{{"); found && !strings.HasPrefix(got, plain) {
			t.Errorf("%q: %q", text, got)
		}
		if encoded := percentEncode(value); !isUnescaped(encoded, value) {
			t.Errorf("%q is encoded as %q", value, encoded)
		}
	})
}

func isUnescaped(encoded, value string) bool {
	back, err := url.PathUnescape(encoded)
	return err == nil && back == value
}
