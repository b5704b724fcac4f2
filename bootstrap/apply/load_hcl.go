package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"vault-plugin-secrets-mcp/backend/check"
)

type hclFile struct {
	Config   []hclConfig   `hcl:"config,block"`
	KMS      []hclKMS      `hcl:"kms,block"`
	Upstream []hclUpstream `hcl:"upstream_credentials,block"`
	SignIn   []hclSignIn   `hcl:"sign_in,block"`
	Servers  []hclServer   `hcl:"server,block"`
	Policies []hclPolicy   `hcl:"policy,block"`
	Roles    []hclRole     `hcl:"role,block"`
	Clients  []hclClient   `hcl:"client,block"`
}

type hclConfig struct {
	DefaultTTL           *string `hcl:"default_ttl"`
	MaxTTL               *string `hcl:"max_ttl"`
	GracePeriod          *string `hcl:"grace_period"`
	MinCustomTokenLength *int64  `hcl:"min_custom_token_length"`
	MaxWait              *string `hcl:"max_wait"`
	MaxWatchers          *int64  `hcl:"max_watchers"`
	Seal                 *string `hcl:"seal"`
	UsageDays            *int64  `hcl:"usage_days"`
}

type hclKMS struct {
	KeyID        string  `hcl:"key_id"`
	Region       *string `hcl:"region"`
	Endpoint     *string `hcl:"endpoint"`
	Audience     *string `hcl:"audience"`
	AccessKey    *string `hcl:"access_key"`
	SecretKey    *string `hcl:"secret_key"`
	SessionToken *string `hcl:"session_token"`
}

type hclServer struct {
	Name        string            `hcl:"name,label"`
	Transport   string            `hcl:"transport"`
	URL         string            `hcl:"url,optional"`
	Command     string            `hcl:"command,optional"`
	Args        []string          `hcl:"args,optional"`
	Env         map[string]string `hcl:"env,optional"`
	Headers     map[string]string `hcl:"headers,optional"`
	Shared      bool              `hcl:"shared,optional"`
	Description string            `hcl:"description,optional"`
	Disabled    *bool             `hcl:"disabled"`
	Pin         *string           `hcl:"pin"`
	PinKinds    *[]string         `hcl:"pin_kinds"`

	Credentials   cty.Value         `hcl:"credentials,optional"` // an object of paths and objects
	Files         map[string]string `hcl:"files,optional"`
	VaultPolicies []string          `hcl:"vault_policies,optional"`
}

type hclPolicy struct {
	Name    string `hcl:"name,label"`
	File    string `hcl:"file"`
	Managed bool   `hcl:"managed,optional"`
}

type hclClient struct {
	Name            string            `hcl:"name,label"`
	Role            string            `hcl:"role,optional"`
	Policies        []string          `hcl:"policies,optional"`
	TokenBoundCIDRs []string          `hcl:"token_bound_cidrs,optional"`
	TokenTTL        string            `hcl:"token_ttl,optional"`
	TokenMaxTTL     string            `hcl:"token_max_ttl,optional"`
	Metadata        map[string]string `hcl:"metadata,optional"`
	Seal            *string           `hcl:"seal"`
	Disabled        *bool             `hcl:"disabled"`
	Upstream        *[]string         `hcl:"upstream_policies"`
	SignIn          bool              `hcl:"sign_in,optional"`
	AccessToken     string            `hcl:"access_token,optional"`
	Ciphertext      string            `hcl:"access_token_ciphertext,optional"`
	Ref             []hclRef          `hcl:"access_token_ref,block"`
	Rights          hcl.Body          `hcl:",remain"` // of hclRights
}

type hclRef struct {
	Env  string `hcl:"env,optional"`
	File string `hcl:"file,optional"`
}

// places are where the blocks of a type stand, in their order.
func places(path string, body *hclsyntax.Body, kind string) []place {
	var all []place
	for _, block := range body.Blocks {
		if block.Type != kind {
			continue
		}
		at := place{file: path, position: position{line: block.TypeRange.Start.Line}, fields: map[string]position{}}
		for name, attribute := range block.Body.Attributes {
			at.fields[name] = position{line: attribute.NameRange.Start.Line}
		}
		for _, inner := range block.Body.Blocks {
			if inner.Type == "access_token_ref" {
				at.fields[fieldToken] = position{line: inner.TypeRange.Start.Line}
			}
		}
		all = append(all, at)
	}
	return all
}

// loadHCL reads a file of blocks. JSON files that it names are noted in named.
func (d *desired) loadHCL(path string, content []byte, named map[string]bool) {
	parsed, diags := hclsyntax.ParseConfig(content, path, hcl.InitialPos)
	if diags.HasErrors() {
		d.diagnosed(diags)
		return
	}
	var f hclFile
	if diags := gohcl.DecodeBody(parsed.Body, functions(path), &f); diags.HasErrors() {
		d.diagnosed(diags)
		return
	}
	body := parsed.Body.(*hclsyntax.Body) //nolint:forcetypeassert // ParseConfig makes this type
	at := func(kind string) []place { return places(path, body, kind) }
	for i, at := range at("config") {
		d.addConfig(at, f.Config[i])
	}
	for i, at := range at(kindKMS) {
		d.addKMS(at, f.KMS[i])
	}
	for i, at := range at(kindUpstream) {
		d.addUpstream(at, f.Upstream[i])
	}
	for i, at := range at(kindSignIn) {
		d.addSignIn(at, nth(body, kindSignIn, i), f.SignIn[i])
	}
	for i, at := range at(kindServer) {
		d.addServer(at, f.Servers[i])
	}
	for i, at := range at(kindPolicy) {
		d.addPolicyFile(at, f.Policies[i], named)
	}
	for i, at := range at("role") {
		d.addRole(at, f.Roles[i])
	}
	for i, at := range at(kindClient) {
		d.addClient(at, f.Clients[i])
	}
}

func (d *desired) addServer(at place, s hclServer) {
	credentials, err := hclCredentials(s.Credentials)
	if err != nil {
		d.mistake(at.of(fieldCredentials), fmt.Errorf("server %q: %w", s.Name, err))
		return
	}
	d.servers = append(d.servers, server{
		at: at, name: s.Name, transport: s.Transport, url: s.URL, command: s.Command, args: s.Args,
		env: s.Env, headers: s.Headers, shared: s.Shared, description: s.Description, disabled: s.Disabled,
		credentials: credentials, files: s.Files, vaultPolicies: s.VaultPolicies, pin: s.Pin, pinKinds: s.PinKinds,
	})
}

// diagnosed notes the mistakes that HCL finds, each once, in one line.
func (d *desired) diagnosed(diags hcl.Diagnostics) {
	var seen []string
	for _, diag := range diags {
		if diag.Severity != hcl.DiagError || len(diags) > 1 && strings.Contains(diag.Detail, "value must be known") {
			continue // a warning, or a consequence of a mistake that is reported
		}
		text := strings.TrimSuffix(diag.Summary, ".") + ": " + diag.Detail
		// A function's error is the whole reason; HCL puts its name before it.
		if _, reason, found := strings.Cut(diag.Detail, " failed: "); found && diag.Summary == "Error in function call" {
			text = strings.TrimSuffix(reason, ".")
		}
		text = strings.Join(strings.Fields(text), " ")
		where := ""
		if diag.Subject != nil {
			where = fmt.Sprintf("%s:%d,%d", diag.Subject.Filename, diag.Subject.Start.Line, diag.Subject.Start.Column)
		}
		if line := where + text; !slices.Contains(seen, line) {
			seen = append(seen, line)
			d.mistake(where, errors.New(text))
		}
	}
}

// addPolicyFile adds a policy from a file of its own.
func (d *desired) addPolicyFile(at place, p hclPolicy, named map[string]bool) {
	file := beside(at.file, p.File)
	named[filepath.Clean(file)] = true
	content, err := readFile(file)
	if err != nil {
		d.mistake(at.of("file"), fmt.Errorf("policy %q: field file: %w", p.Name, err))
		return
	}
	f, err := openJSON(file, content)
	if err != nil {
		d.mistakes = append(d.mistakes, err)
		return
	}
	var object map[string]any
	if err := decode(f.content, &object, false); err != nil {
		d.mistakenAt(f.place(""), err)
		return
	}
	d.mistakenAt(f.place(""), d.addPolicy(policySource{at: at, name: p.Name, managed: p.Managed, settings: d.policyOf(file, object)}))
}

func (d *desired) addConfig(at place, c hclConfig) {
	d.configAt = at
	for _, f := range []struct {
		field string
		value *string
	}{
		{"default_ttl", c.DefaultTTL}, {"max_ttl", c.MaxTTL}, {"grace_period", c.GracePeriod}, {"max_wait", c.MaxWait},
	} {
		if f.value != nil {
			d.config[f.field] = d.seconds(at, "config", f.field, *f.value)
		}
	}
	for field, value := range map[string]*int64{
		"min_custom_token_length": c.MinCustomTokenLength, "max_watchers": c.MaxWatchers, "usage_days": c.UsageDays,
	} {
		if value != nil {
			d.config[field] = *value
		}
	}
	if c.Seal != nil {
		d.config["seal"] = *c.Seal
	}
}

// seconds reads a duration, and notes a mistake if it is not valid.
func (d *desired) seconds(at place, what, field, text string) int64 {
	parsed, err := check.Duration(text)
	if err != nil {
		d.mistake(at.of(field), fmt.Errorf("%s: field %s: %w", what, field, err))
	}
	return int64(parsed / time.Second)
}

func (d *desired) addKMS(at place, k hclKMS) {
	if d.kms != nil {
		d.mistake(at.of(""), fmt.Errorf("a block kms is in %s already: keep one of them", d.kms.at.of("")))
		return
	}
	d.kms = &kmsSettings{at: at, fields: map[string]any{"key_id": k.KeyID}, credentials: map[string]any{}}
	if k.Audience != nil && *k.Audience == "" {
		k.Audience = nil // the engine's default, which it reads back as another text
	}
	for field, value := range map[string]*string{"region": k.Region, "endpoint": k.Endpoint, "audience": k.Audience} {
		if value != nil {
			d.kms.fields[field] = *value
		}
	}
	for field, value := range map[string]*string{"access_key": k.AccessKey, "secret_key": k.SecretKey, "session_token": k.SessionToken} {
		if value != nil {
			d.kms.credentials[field] = *value
		}
	}
}

func (d *desired) addClient(at place, c hclClient) {
	rights, ok := d.rights(at, c.Rights)
	if !ok {
		return
	}
	fields := clientFields()
	rights.addTo(fields)
	fields["policies"], fields["token_bound_cidrs"] = unique(c.Policies), unique(c.TokenBoundCIDRs)
	if c.Upstream != nil {
		fields["upstream_policies"] = unique(*c.Upstream)
	}
	what := fmt.Sprintf("client %q", c.Name)
	fields["token_ttl"] = d.seconds(at, what, "token_ttl", c.TokenTTL)
	fields["token_max_ttl"] = d.seconds(at, what, "token_max_ttl", c.TokenMaxTTL)
	if c.Metadata != nil {
		fields["metadata"] = c.Metadata
	}
	fields["sign_in"], fields["role"] = c.SignIn, c.Role
	if c.Seal != nil {
		fields["seal"] = *c.Seal
	}
	if c.Disabled != nil {
		fields["disabled"] = *c.Disabled
	}
	var ref tokenRef
	for _, r := range c.Ref {
		ref = tokenRef(r)
	}
	d.addToken(client{at: at, name: c.Name, ciphertext: strings.TrimSpace(c.Ciphertext), fields: fields}, c.AccessToken, ref)
}

// functions are env("NAME") and file("path"), which keep credentials out of the files.
func functions(path string) *hcl.EvalContext {
	text := func(name string, value func(string) (string, error)) function.Function {
		return function.New(&function.Spec{
			Params: []function.Parameter{{Name: name, Type: cty.String}},
			Type:   function.StaticReturnType(cty.String),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				v, err := value(args[0].AsString())
				return cty.StringVal(v), err
			},
		})
	}
	return &hcl.EvalContext{Functions: map[string]function.Function{
		"env": text("name", func(name string) (string, error) {
			value, set := os.LookupEnv(name)
			if !set {
				return "", unset(name)
			}
			return value, nil
		}),
		"file": text("path", func(file string) (string, error) {
			content, err := os.ReadFile(beside(path, file))
			return strings.TrimSpace(string(content)), err
		}),
	}}
}

// beside resolves a path in a file, which is relative to that file.
func beside(source, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(source), path)
}

// canonical makes values from HCL, JSON and Vault comparable.
func canonical(value any) string {
	content, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(content)
}
