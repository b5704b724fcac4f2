package apply

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/connect"
)

// Actions of a step.
const (
	isCreate = "create"
	isChange = "change"
	isDelete = "delete"
)

// plan reads the present state and lists the steps, ordered by their dependencies.
func (s *session) plan(ctx context.Context) error {
	if err := s.readRecord(ctx); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{
		s.planPlugin, s.planACL, s.planGateway, s.planUpstream, s.planKMS, s.planConfig, s.planSignIn, s.planServers, s.planPolicies, s.planRoles, s.planClients, s.planPrune,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// add plans a step, unless there is nothing to do. A thing that exists and was not created by
// apply is foreign.
func (s *session) add(p *step) {
	if len(p.lines) == 0 {
		return
	}
	if p.is == isChange && !s.record.own(p) {
		s.foreign = append(s.foreign, p.key())
	}
	s.steps = append(s.steps, p)
}

// read reads a path below the mount; nil where there is nothing.
func (s *session) read(ctx context.Context, path string) (map[string]any, error) {
	if !s.mounted {
		return nil, nil
	}
	secret, err := s.vault.Logical().ReadWithContext(ctx, s.Mount+"/"+path)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s/%s: %w", s.Mount, path, explain(err))
	}
	if secret == nil {
		return nil, nil
	}
	return secret.Data, nil
}

// write writes a path below the mount.
func (s *session) write(ctx context.Context, path string, data map[string]any) (*api.Secret, error) {
	secret, err := s.vault.Logical().WriteWithContext(ctx, s.Mount+"/"+path, data)
	return secret, explain(err)
}

// put is write for things of the files: it passes on the warnings of the engine.
func (s *session) put(ctx context.Context, path string, data map[string]any) (*api.Secret, error) {
	secret, err := s.write(ctx, path, data)
	s.warn(secret)
	return secret, err
}

func (s *session) puts(path string, data map[string]any) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := s.put(ctx, path, data)
		return err
	}
}

func (s *session) warn(secret *api.Secret) {
	if secret == nil {
		return
	}
	for _, warning := range secret.Warnings {
		s.warned(warning)
	}
}

func explain(err error) error { return connect.Explain(err) }

// differences compares the files with the present state, field by field.
func differences(want, have map[string]any) []string {
	var lines []string
	for _, field := range slices.Sorted(maps.Keys(want)) {
		wanted := canonical(want[field])
		if have == nil {
			if !empty(wanted) {
				lines = append(lines, fmt.Sprintf("+ %s = %s", field, inUnits(field, wanted)))
			}
			continue
		}
		value, known := have[field]
		held := canonical(value)
		if held == "null" && (wanted == `""` || wanted == "{}") || !known && empty(wanted) {
			continue // the engine shows null for unset fields, and an older one does not have them all
		}
		if held != wanted {
			lines = append(lines, fmt.Sprintf("~ %s = %s (was %s)", field, inUnits(field, wanted), inUnits(field, held)))
		}
	}
	if have == nil && len(lines) == 0 {
		lines = []string{"+ with nothing set"}
	}
	return lines
}

// durations are the fields that Vault holds in seconds, and files name with a unit.
var durations = []string{"default_ttl", "max_ttl", "grace_period", "max_wait", "token_ttl", "token_max_ttl", "token_period"}

// inUnits formats a value as a file would have it.
func inUnits(field, value string) string {
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || !slices.Contains(durations, field) {
		return value
	}
	if seconds == 0 {
		return `"0"`
	}
	text := (time.Duration(seconds) * time.Second).String() // 720h0m0s, 10m0s
	text = strings.Replace(text, "m0s", "m", 1)
	return strconv.Quote(strings.Replace(text, "h0m", "h", 1))
}

// empty reports whether a value of a new thing need not be shown.
func empty(value string) bool {
	return slices.Contains([]string{`""`, "[]", "{}", "null", "0", "false"}, value)
}

func verb(have map[string]any) string {
	if have == nil {
		return isCreate
	}
	return isChange
}

func (s *session) planConfig(ctx context.Context) error {
	have, err := s.read(ctx, "config")
	if err != nil {
		return err
	}
	kms := s.desired.kms != nil
	if !kms {
		held, err := s.read(ctx, "config/kms")
		if err != nil {
			return err
		}
		kms = held != nil
	}
	s.judgeConfig(have, kms)
	if len(s.desired.config) == 0 {
		return nil
	}
	lines := differences(s.desired.config, have)
	if len(lines) == 0 {
		return nil
	}
	// The configuration belongs to the mount: apply writes it even if somebody else has
	// set it.
	s.steps = append(s.steps, &step{kind: "config", name: s.Mount, is: isChange, lines: lines, do: s.puts("config", s.desired.config)})
	return nil
}

func (s *session) planServers(ctx context.Context) error {
	for _, server := range s.desired.servers {
		have, err := s.read(ctx, "servers/"+server.name)
		if err != nil {
			return err
		}
		p := &step{kind: kindServer, name: server.name, is: verb(have)}
		p.lines = server.differences(have)
		held := s.record.held[p.key()]
		p.fingerprint = held
		same := !server.hasSecrets() || sameSecrets(held, server.secrets())
		if have != nil && len(p.lines) == 0 && !same {
			p.lines = []string{"~ values of headers, env, files, the URL's query or the data of credentials (they are never shown)"}
		}
		data := server.data()
		if have == nil {
			data["force"] = true // the files say so, and the engine's warning names the clients that already named it
		}
		p.do = func(ctx context.Context) (err error) {
			if _, err = s.put(ctx, "servers/"+server.name, data); err != nil {
				return err
			}
			switch {
			case !server.hasSecrets():
				p.fingerprint = ""
			case !same:
				p.fingerprint, err = fingerprint(server.secrets())
			}
			return err
		}
		s.add(p)
	}
	return nil
}

// secrets are all values that the engine never shows, as one text.
func (s *server) secrets() string {
	_, query, _ := strings.Cut(s.url, "?")
	// Hidden values are at the end, and only if there are any: older records have
	// fingerprints without them.
	return canonical(append([]any{query, orNone(s.env), orNone(s.headers)}, s.hidden()...))
}

func (s *server) hasSecrets() bool {
	return len(s.env) > 0 || len(s.headers) > 0 || strings.Contains(s.url, "?") || s.hidden() != nil
}

func orNone(values map[string]string) map[string]string {
	if values == nil {
		return map[string]string{}
	}
	return values
}

// parameters are the names of a URL's query.
func parameters(text string) []string {
	_, query, _ := strings.Cut(text, "?")
	values, _ := url.ParseQuery(query) // the engine reports a mistake in it
	return names(values)
}

// names are the keys in order. It never returns nil.
func names[V any](values map[string]V) []string {
	return slices.AppendSeq([]string{}, slices.Values(slices.Sorted(maps.Keys(values))))
}

func (s *session) planPolicies(ctx context.Context) error {
	for _, policy := range s.desired.policies {
		have, err := s.read(ctx, "policies/"+policy.name)
		if err != nil {
			return err
		}
		data := maps.Clone(policy.settings)
		data["managed"] = policy.managed
		want := maps.Clone(policy.read)
		want["managed"] = policy.managed
		for field, value := range have { // set there, and not in the file
			if _, named := want[field]; !named && !empty(canonical(value)) && slices.Contains(policyKeys, field) {
				want[field] = nil
			}
		}
		if have["managed"] == true && !policy.managed {
			data["force"] = true // the files say so, and the difference shows it
		}
		p := &step{kind: kindPolicy, name: policy.name, is: verb(have), lines: differences(want, have)}
		p.do = s.puts("policies/"+policy.name, data)
		s.add(p)
	}
	return nil
}

// folders are the paths of things that can be pruned, by kind.
var folders = map[string]string{kindClient: "clients/", kindPolicy: "policies/", kindClientRole: "roles/", kindServer: "servers/"}

// planPrune finds things that apply created and no file names any more.
func (s *session) planPrune(ctx context.Context) error {
	wanted := s.desired.wanted()
	for _, key := range slices.Sorted(maps.Keys(s.record.held)) {
		kind, name, _ := strings.Cut(key, " ")
		folder, ours := folders[kind]
		if !ours || wanted[key] {
			continue
		}
		have, err := s.read(ctx, folder+name)
		if err != nil {
			return err
		}
		switch {
		case have == nil: // never created, or deleted by hand
			delete(s.record.held, key)
		case !s.Prune:
			s.kept = append(s.kept, key)
		default:
			path, query := s.Mount+"/"+folder+name, map[string][]string{}
			if kind == kindPolicy && have["managed"] == true {
				query["force"] = []string{"true"} // -prune says so
			}
			s.steps = append(s.steps, &step{kind: kind, name: name, is: isDelete, do: func(ctx context.Context) error {
				secret, err := s.vault.Logical().DeleteWithDataWithContext(ctx, path, query)
				s.warn(secret)
				return explain(err)
			}})
		}
	}
	return nil
}
