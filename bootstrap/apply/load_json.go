package apply

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/backend/policy"
)

// policyKeys are what of managed settings is a policy.
var policyKeys = []string{"allowedMcpServers", "deniedMcpServers", "allowManagedMcpServersOnly"}

var errUnknownJSON = errors.New(`it is none of: a client ("allowed_servers"), a server ("transport"), managed settings ("allowedMcpServers", "deniedMcpServers")`)

var errGroup = errors.New(`it is a tool group of MCPJungle, which has no counterpart here: take it out, and give clients "allowed_tools" in HCL`)

// loadJSON reads a file of MCPJungle, one client or server or a list of them, or
// one of managed settings.
func (d *desired) loadJSON(path string, content []byte) {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	trimmed := bytes.TrimSpace(content)
	if len(trimmed) == 0 || trimmed[0] != '[' {
		d.mistake(path, d.loadObject(place{file: path}, content))
		return
	}
	var list []json.RawMessage
	if err := decode(content, &list, false); err != nil {
		d.mistake(path, err)
		return
	}
	for i, element := range list {
		at := place{file: path, element: fmt.Sprintf("[%d]", i)}
		d.mistake(at.of(""), d.loadObject(at, element))
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
	case has(policyKeys...):
		name := strings.TrimSuffix(filepath.Base(at.file), ".json")
		return d.addPolicy(policySource{
			at: at, name: name, managed: strings.HasPrefix(name, "managed-settings"), settings: d.policyOf(at.file, object),
		})
	case has("transport"):
		return d.loadServer(at, content)
	case has("allowed_servers", "allow_list", "access_token", "access_token_ref", "access_token_ciphertext"):
		return d.loadClient(at, content)
	case has("included_tools", "included_servers", "excluded_tools"):
		return errGroup
	default:
		return fmt.Errorf("it has %s, and %w", strings.Join(slices.Sorted(maps.Keys(object)), ", "), errUnknownJSON)
	}
}

// addPolicy adds a policy, read as the engine reads it: what it would refuse is an
// error before anything is changed.
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
		if slices.Contains(policyKeys, key) {
			settings[key] = object[key]
		} else {
			d.notes = append(d.notes, fmt.Sprintf("%s: %q is no part of a policy, and stays with the desktop program", path, key))
		}
	}
	return settings
}

// jsonServer is MCPJungle's form of a server.
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
	for _, field := range []*string{&s.URL, &s.BearerToken, &s.Command, &s.Description} {
		*field = x.expand(*field)
	}
	for i := range s.Args {
		s.Args[i] = x.expand(s.Args[i])
	}
	for _, values := range []map[string]string{s.Headers, s.Env} {
		for key := range values {
			values[key] = x.expand(values[key])
		}
	}
	if x.err != nil {
		return x.err
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
		env: s.Env, headers: s.Headers, description: s.Description,
	})
	return nil
}

// addBearer makes a header of bearer_token, as MCPJungle does: headers go over it,
// and a program on this machine has no use for it.
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
	for _, field := range []*string{&c.AccessToken, &c.Ciphertext, &c.AccessTokenRef.Env, &c.AccessTokenRef.File} {
		*field = x.expand(*field)
	}
	if x.err != nil {
		return x.err
	}
	fields := clientFields()
	fields["allowed_servers"] = unique(append(c.AllowedServers, c.AllowList...))
	if c.Description != "" {
		fields["metadata"] = map[string]string{"description": c.Description}
	}
	d.addToken(client{at: at, name: c.Name, ciphertext: strings.TrimSpace(c.Ciphertext), fields: fields}, c.AccessToken, c.AccessTokenRef)
	return nil
}

var errNoName = errors.New(`field "name" is missing`)

// decode reads one JSON value and nothing after it. What is wrong is told without
// the value, which may be a token.
func decode(content []byte, into any, strict bool) error {
	decoder := json.NewDecoder(bytes.NewReader(content))
	if strict {
		decoder.DisallowUnknownFields()
	}
	if err := decoder.Decode(into); err != nil {
		var mistyped *json.UnmarshalTypeError
		if errors.As(err, &mistyped) {
			return fmt.Errorf("field %q: a %s cannot stand here", mistyped.Field, mistyped.Value)
		}
		if unknown, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return fmt.Errorf("field %s is not known: correct its name, or take it out", unknown)
		}
		return fmt.Errorf("it is not valid JSON: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something stands after the end of the JSON: take it out")
	}
	return nil
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expander replaces ${NAME} by the environment's value, as MCPJungle does.
type expander struct{ err error }

func (x *expander) expand(text string) string {
	return variable.ReplaceAllStringFunc(text, func(match string) string {
		name := match[2 : len(match)-1]
		value, set := os.LookupEnv(name)
		if !set && x.err == nil {
			x.err = fmt.Errorf("the environment variable %s is not set: set it where mcp-bootstrap runs", name)
		}
		return value
	})
}
