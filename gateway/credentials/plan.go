package credentials

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/credential"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// plan is a parsed registration: the requests to Vault, and the templates that their
// answers are put into.
type plan struct {
	specs         map[string]credential.Spec
	names         []string        // of specs, sorted
	personal      map[string]bool // those of specs that are read as the person
	vaultPolicies []string
	token         bool // {{vault.token}}

	header map[string]*credential.Template // by canonical names
	env    map[string]*credential.Template
	files  map[string]*credential.Template
}

// Bounds of rendered values, in bytes. Servers refuse longer headers, as a rule.
const (
	maxValue = 8 << 10
	maxFile  = 64 << 10
)

// newPlan reads a registration. The error names the field, and no value.
func newPlan(server *grants.Server) (*plan, error) {
	p := &plan{
		specs: server.Credentials, names: slices.Sorted(maps.Keys(server.Credentials)),
		vaultPolicies: server.VaultPolicies, token: len(server.VaultPolicies) > 0,
		personal: make(map[string]bool),
	}
	for name, spec := range p.specs {
		if slices.Contains(spec.Placeholders(), credential.PersonAlias) {
			p.personal[name] = true
		}
	}
	var err error
	if p.header, err = parseAll("headers", headersOf(server)); err != nil {
		return nil, err
	}
	if p.env, err = parseAll("env", server.Env); err != nil {
		return nil, err
	}
	if p.files, err = parseAll("files", server.Files); err != nil {
		return nil, err
	}
	for name, spec := range p.specs {
		if err := spec.Check(); err != nil {
			return nil, fmt.Errorf("credentials: %s: %w", name, err)
		}
	}
	return p, p.checkReferences()
}

// headersOf are the registration's headers, and that of the user in its URL. Those that
// belong to the gateway are left out.
func headersOf(server *grants.Server) map[string]string {
	headers := make(map[string]string, len(server.Headers)+1)
	if target, err := url.Parse(server.URL); err == nil && target.User != nil {
		password, _ := target.User.Password()
		headers["Authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(target.User.Username()+":"+password))
	}
	for name, value := range server.Headers {
		if !check.IsReservedHeader(name) {
			headers[textproto.CanonicalMIMEHeaderKey(name)] = value
		}
	}
	return headers
}

func parseAll(field string, texts map[string]string) (map[string]*credential.Template, error) {
	parsed := make(map[string]*credential.Template, len(texts))
	for name, text := range texts {
		t, err := credential.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: the value of %s %w", field, name, err)
		}
		parsed[name] = t
	}
	return parsed, nil
}

// checkReferences refuses a placeholder without a credential or a file.
func (p *plan) checkReferences() error {
	for _, texts := range []map[string]*credential.Template{p.header, p.env, p.files} {
		for name, t := range texts {
			for _, ref := range t.Refs() {
				if !p.knows(ref) {
					return fmt.Errorf("the value of %s has {{%s}}, which is not one of the registration's credentials", name, ref)
				}
			}
		}
	}
	return nil
}

func (p *plan) knows(ref credential.Ref) bool {
	switch ref.Name {
	case credential.VaultName:
		return p.token && ref.Field == "token"
	case credential.FileName:
		return p.files[ref.Field] != nil
	}
	_, known := p.specs[ref.Name]
	return known
}

// render puts the values into the registration's texts.
func (p *plan) render(v values) (rendered, *Error) {
	var r rendered
	var err error
	secrets := make(map[string]bool)
	value := func(ref credential.Ref) (string, error) {
		text, err := v.value(ref)
		if err == nil {
			secrets[text] = true
		}
		return text, err
	}
	if r.header, err = renderHeader(p.header, value); err != nil {
		return rendered{}, &Error{Failure: FailureValue, Err: err}
	}
	env := func(ref credential.Ref) (string, error) {
		if ref.Name == credential.FileName {
			return "{{" + ref.String() + "}}", nil // the path is known when the child has a home
		}
		return value(ref)
	}
	if r.env, err = renderAll("env", p.env, env, maxValue); err != nil {
		return rendered{}, &Error{Failure: FailureValue, Err: err}
	}
	if r.files, err = renderAll("files", p.files, value, maxFile); err != nil {
		return rendered{}, &Error{Failure: FailureValue, Err: err}
	}
	r.secrets = slices.Sorted(maps.Keys(secrets))
	return r, nil
}

func renderHeader(texts map[string]*credential.Template, value func(credential.Ref) (string, error)) (http.Header, error) {
	header := make(http.Header, len(texts))
	for name, t := range texts {
		text, err := t.Render(value)
		switch {
		case err != nil:
			return nil, fmt.Errorf("headers: %s: %w", name, err)
		case len(text) > maxValue && !t.Static():
			return nil, fmt.Errorf("headers: %s: its value is %d bytes long with its credentials: at most %d are sent", name, len(text), maxValue)
		case !httpguts.ValidHeaderFieldValue(text):
			return nil, fmt.Errorf("headers: %s: its value has a character that no header may carry, with its credentials", name)
		}
		header[name] = []string{text}
	}
	return header, nil
}

func renderAll(field string, texts map[string]*credential.Template, value func(credential.Ref) (string, error), most int) (map[string]string, error) {
	all := make(map[string]string, len(texts))
	for name, t := range texts {
		text, err := t.Render(value)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %s: %w", field, name, err)
		case len(text) > most && !t.Static():
			return nil, fmt.Errorf("%s: %s: it is %d bytes long with its credentials: at most %d are passed on", field, name, len(text), most)
		case strings.ContainsRune(text, 0):
			return nil, fmt.Errorf("%s: %s: it has a NUL character, with its credentials", field, name)
		}
		all[name] = text
	}
	return all, nil
}

var errNoField = errors.New("Vault's answer has no such field, or it is not a text") //nolint:staticcheck // a name starts it

// value returns one field as a text.
func (v values) value(ref credential.Ref) (string, error) {
	var at any = v[ref.Name]
	for part := range strings.SplitSeq(ref.Field, ".") {
		fields, ok := at.(map[string]any)
		if !ok {
			return "", fmt.Errorf("{{%s}}: %w", ref, errNoField)
		}
		at = fields[part]
	}
	switch found := at.(type) {
	case string:
		return found, nil
	case bool, int, int64, float64, interface{ Int64() (int64, error) }:
		return fmt.Sprint(found), nil
	}
	return "", fmt.Errorf("{{%s}}: %w", ref, errNoField)
}
