package apply

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/bootstrap/clientfile"
)

// policyKeys are the keys of managed settings that make up a policy.
var policyKeys = []string{"allowedMcpServers", "deniedMcpServers", "allowManagedMcpServersOnly"}

var errUnknownJSON = errors.New(`it is not one of: a client ("allowed_servers"), a server ("transport"), managed settings ("allowedMcpServers", "deniedMcpServers"), an MCP client's file ("mcpServers", "servers")`)

var errGroup = errors.New(`it is a tool group of MCPJungle, which has no counterpart here: take it out, and give clients "allowed_tools" in HCL`)

var errUser = errors.New(`it is a user of MCPJungle, which has no counterpart here: take it out. People log in to Vault, and Vault's policies decide about their rights`)

var (
	errServersAndPolicy = errors.New("it has servers and managed settings: put them into two files")
	errServersShape     = errors.New("its servers are not an object: write each of them under its name, as in {\"mcpServers\": {\"NAME\": {\"command\": …}}}")
)

// loadJSON reads a file of MCPJungle, one client or server or a list of them, one of managed
// settings, or one of an MCP client.
func (d *desired) loadJSON(path string, content []byte) {
	f, err := openLenient(path, content)
	if err != nil {
		d.mistakes = append(d.mistakes, err)
		return
	}
	if bytes.TrimSpace(f.content)[0] != '[' {
		at := f.place("")
		d.mistakenAt(at, d.loadObject(at, f.content))
		return
	}
	var list []json.RawMessage
	if err := decode(f.content, &list, false); err != nil {
		d.mistake(path, err)
		return
	}
	for i, element := range list {
		at := f.place(fmt.Sprintf("[%d]", i))
		d.mistakenAt(at, d.loadObject(at, element))
	}
}

func (d *desired) loadObject(at place, content []byte) error {
	var object map[string]any
	if err := decode(content, &object, false); err != nil {
		return err
	}
	has := func(keys ...string) bool {
		return slices.ContainsFunc(keys, func(key string) bool { _, ok := object[key]; return ok })
	}
	switch {
	case d.holdsRole(at.file):
		return d.loadRole(at, content, object)
	case clientfile.Holds(object):
		if has(policyKeys...) {
			return errServersAndPolicy
		}
		d.loadClientFile(at, object)
		return nil
	case has(policyKeys...):
		name := strings.TrimSuffix(filepath.Base(at.file), ".json")
		return d.addPolicy(policySource{
			at: at, name: name, managed: strings.HasPrefix(name, "managed-settings"), settings: d.policyOf(at.file, object),
		})
	case has("username") && !has("transport"):
		return errUser
	case has("transport"):
		return d.loadServer(at, content)
	case has("allowed_servers", "allow_list", "role", "access_token", "access_token_ref", "access_token_ciphertext"):
		return d.loadClient(at, content)
	case has("included_tools", "included_servers", "excluded_tools"):
		return errGroup
	case has("mcpServers", "mcp_servers", "servers"):
		return errServersShape
	default:
		return fmt.Errorf("it has %s, and %w", strings.Join(slices.Sorted(maps.Keys(object)), ", "), errUnknownJSON)
	}
}

// addPolicy adds a policy, read as the engine reads it, so that a mistake is an error before
// anything is changed.
func (d *desired) addPolicy(p policySource) error {
	document, _, err := policy.ParseFields(p.settings)
	if err != nil {
		return err
	}
	text, err := json.Marshal(document)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &p.read); err != nil {
		return err
	}
	d.policies = append(d.policies, p)
	return nil
}

// policyOf takes the policy out of managed settings.
func (d *desired) policyOf(path string, object map[string]any) map[string]any {
	settings := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if slices.Contains(policyKeys, key) || policy.NearMiss(key, policyKeys) != "" { // which is refused with its place
			settings[key] = object[key]
		} else {
			d.notes = append(d.notes, fmt.Sprintf("%s: %q is not part of a policy, and stays with the desktop program", path, key))
		}
	}
	return settings
}

// jsonServer is MCPJungle's form of a server, with our fields that MCPJungle does not
// have.
type jsonServer struct {
	Name        string            `json:"name"`
	Transport   string            `json:"transport"`
	Description string            `json:"description"`
	URL         string            `json:"url"`
	BearerToken string            `json:"bearer_token"`
	Headers     map[string]string `json:"headers"`
	Command     string            `json:"command"`
	Args        []string          `json:"args"`
	Env         map[string]string `json:"env"`
	SessionMode string            `json:"session_mode"`
	Disabled    *bool             `json:"disabled"`
	Pin         *string           `json:"pin"`
	PinKinds    *[]string         `json:"pin_kinds"`

	Credentials   json.RawMessage   `json:"credentials"`
	Files         map[string]string `json:"files"`
	VaultPolicies []string          `json:"vault_policies"`

	OAuthRedirectURI  string   `json:"oauth_redirect_uri"`
	OAuthClientID     string   `json:"oauth_client_id"`
	OAuthClientSecret string   `json:"oauth_client_secret"`
	OAuthScopes       []string `json:"oauth_scopes"`
}

func (d *desired) loadServer(at place, content []byte) error {
	var s jsonServer
	if err := decode(content, &s, true); err != nil {
		return err
	}
	if s.Name == "" {
		return errNoName
	}
	x := &expander{}
	x.all(map[string]*string{"url": &s.URL, "bearer_token": &s.BearerToken, "command": &s.Command, "description": &s.Description})
	for i := range s.Args {
		s.Args[i] = x.expand(fmt.Sprintf("args[%d]", i), s.Args[i])
	}
	credentials, err := credentialsOf(s.Credentials)
	if err != nil {
		return err
	}
	x.expandCredentials(credentials)
	for field, values := range map[string]map[string]string{"headers": s.Headers, "env": s.Env, "files": s.Files} {
		for key := range values {
			values[key] = x.expand(field+"."+key, values[key])
		}
	}
	if err := x.failure(); err != nil {
		return err
	}
	s.addBearer()
	if s.Transport == "streamable_http" {
		s.Transport = "http"
	}
	if s.SessionMode != "" {
		d.notes = append(d.notes, at.of("")+`: "session_mode" has no meaning here: sessions are each client's own`)
	}
	if s.OAuthRedirectURI != "" || s.OAuthClientID != "" || s.OAuthClientSecret != "" || len(s.OAuthScopes) > 0 {
		d.notes = append(d.notes, at.of("")+`: "oauth_…" has no meaning here: the gateway signs in nowhere; give the server "headers" with a token of its own`)
	}
	d.servers = append(d.servers, server{
		at: at, name: s.Name, transport: s.Transport, url: s.URL, command: s.Command, args: s.Args,
		env: s.Env, headers: s.Headers, description: s.Description, disabled: s.Disabled,
		credentials: credentials, files: s.Files, vaultPolicies: s.VaultPolicies, pin: s.Pin, pinKinds: s.PinKinds,
	})
	return nil
}

// addBearer turns bearer_token into a header, as MCPJungle does: headers override it, and a
// program on this machine does not use it.
func (s *jsonServer) addBearer() {
	if s.BearerToken == "" || s.Transport == "stdio" {
		return
	}
	for name := range s.Headers {
		if strings.EqualFold(name, "Authorization") {
			return
		}
	}
	if s.Headers == nil {
		s.Headers = map[string]string{}
	}
	s.Headers["Authorization"] = "Bearer " + s.BearerToken
}

// jsonClient is MCPJungle's form of a client: that of its files, and that in
// which its API lists them, tokens and all.
type jsonClient struct {
	Name           string          `json:"name"`
	Description    string          `json:"description"`
	AllowedServers []string        `json:"allowed_servers"`
	AllowList      []string        `json:"allow_list"`
	AccessToken    string          `json:"access_token"`
	AccessTokenRef tokenRef        `json:"access_token_ref"`
	Ciphertext     string          `json:"access_token_ciphertext"` // ours: MCPJungle has none
	Role           string          `json:"role"`                    // likewise
	Upstream       *[]string       `json:"upstream_policies"`       // likewise
	SignIn         bool            `json:"sign_in"`                 // likewise
	ID             json.RawMessage `json:"ID"`
	CreatedAt      json.RawMessage `json:"CreatedAt"`
	UpdatedAt      json.RawMessage `json:"UpdatedAt"`
	DeletedAt      json.RawMessage `json:"DeletedAt"`
}

func (d *desired) loadClient(at place, content []byte) error {
	var c jsonClient
	if err := decode(content, &c, true); err != nil {
		return err
	}
	if c.Name == "" {
		return errNoName
	}
	x := &expander{}
	x.all(map[string]*string{
		"access_token": &c.AccessToken, "access_token_ciphertext": &c.Ciphertext,
		"access_token_ref.env": &c.AccessTokenRef.Env, "access_token_ref.file": &c.AccessTokenRef.File,
	})
	if err := x.failure(); err != nil {
		return err
	}
	if c.AllowedServers == nil && c.AllowList == nil && c.Role == "" {
		d.notes = append(d.notes, fmt.Sprintf("%s: it names no servers, as MCPJungle's files of users do: here it becomes the MCP client %q, which may reach none. "+
			"Give it \"allowed_servers\", or take the file out where it is a person's", at.of(""), c.Name))
	}
	fields := clientFields()
	fields["allowed_servers"] = unique(append(c.AllowedServers, c.AllowList...))
	if c.Upstream != nil {
		fields["upstream_policies"] = unique(*c.Upstream)
	}
	fields["sign_in"], fields["role"] = c.SignIn, c.Role
	if c.Description != "" {
		fields["metadata"] = map[string]string{"description": c.Description}
	}
	d.addToken(client{at: at, name: c.Name, ciphertext: strings.TrimSpace(c.Ciphertext), fields: fields}, c.AccessToken, c.AccessTokenRef)
	return nil
}

var errNoName = errors.New(`field "name" is missing`)

// variable is ${NAME}, also as ${env:NAME} and as ${NAME:-default}.
var variable = regexp.MustCompile(`\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}`)

// expander replaces ${NAME} by the environment's value, as MCPJungle and desktop
// programs do. It does not expand variables in a value.
type expander struct{ errs []*fieldError }

func (x *expander) expand(field, text string) string {
	return variable.ReplaceAllStringFunc(text, func(match string) string {
		parts := variable.FindStringSubmatch(match)
		value, set := os.LookupEnv(parts[1])
		switch otherwise, given := strings.CutPrefix(parts[2], ":-"); {
		case set:
		case given:
			return otherwise
		default:
			x.errs = append(x.errs, &fieldError{field, fmt.Errorf("field %s: %w", field, unset(parts[1]))})
		}
		return value
	})
}

func (x *expander) all(fields map[string]*string) {
	for name, text := range fields {
		*text = x.expand(name, *text)
	}
}

// failure lists all variables that are not set, in the order of their fields.
func (x *expander) failure() error {
	slices.SortStableFunc(x.errs, func(a, b *fieldError) int { return strings.Compare(a.field, b.field) })
	joined := make([]error, 0, len(x.errs))
	for _, err := range x.errs {
		joined = append(joined, err)
	}
	return errors.Join(joined...)
}

// unset says that a variable is missing.
func unset(name string) error {
	return fmt.Errorf("the environment variable %s is not set: set it where mcp-bootstrap runs", name)
}
