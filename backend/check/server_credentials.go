package check

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"vault-plugin-secrets-mcp/backend/credential"
)

// Bounds of a registration's fields about credentials.
const (
	maxCredentials     = 16       // in number
	maxCredentialsSize = 64 << 10 // paths and data
	maxFiles           = 32       // in number
	maxFileSize        = 64 << 10
	maxFilesSize       = 128 << 10
	maxVaultPolicies   = 32
)

// rootPolicy is Vault's policy that allows everything. No token can be made with it here.
const rootPolicy = "root"

// VaultPolicyName refuses a text that is not a valid name of an ACL policy in Vault.
func VaultPolicyName(name string) error {
	switch {
	case name == "" || len(name) > maxNameLength:
		return fmt.Errorf("the name of a Vault policy is %d characters long: 1 to %d are allowed", len(name), maxNameLength)
	case name != strings.ToLower(name):
		return fmt.Errorf("the Vault policy %q has an upper-case letter: Vault's policies are lower-case only", name)
	case name == rootPolicy:
		return fmt.Errorf("%q allows everything in Vault: name a policy that grants only the rights that are needed", name)
	case strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == ',' }):
		return fmt.Errorf("%q is not a valid name of a Vault policy: it has a comma, a control character or white space at an end", name)
	}
	return nil
}

// UsesCredentials reports whether the gateway needs Vault to reach the server.
func (s *Server) UsesCredentials() bool { return len(s.Credentials) > 0 || len(s.VaultPolicies) > 0 }

// checkCredentials refuses credentials that cannot be read, templates that cannot be
// rendered, and parts of both without a use.
func (s *Server) checkCredentials(p *Problems) {
	s.checkSpecs(p)
	s.checkFiles(p)
	for _, name := range s.VaultPolicies {
		p.wrap("vault_policies", VaultPolicyName(name))
	}
	if len(s.VaultPolicies) > maxVaultPolicies {
		p.add("vault_policies", "field vault_policies: it has %d entries: at most %d are allowed", len(s.VaultPolicies), maxVaultPolicies)
	}
	s.checkShared(p)
	if s.Transport != TransportStdio && s.UsesCredentials() && s.URL != "" && !isPrivateLink(s.URL) {
		p.add("url", "field url: a server with credentials or vault_policies needs https, since they would cross the network in clear: http is for localhost, 127.0.0.0/8 and ::1")
	}
	if len(s.Credentials) <= maxCredentials {
		s.checkPlaceholders(p)
	}
}

func (s *Server) checkSpecs(p *Problems) {
	const field = "credentials"
	if len(s.Credentials) > maxCredentials {
		p.add(field, "field credentials: there are %d: at most %d are allowed", len(s.Credentials), maxCredentials)
		return
	}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(s.Credentials)) {
		spec := s.Credentials[name]
		size += len(spec.Path)
		for key, value := range spec.Data {
			size += len(key) + len(value)
		}
		if err := credential.CheckName(name); err != nil {
			p.wrap(field, err)
		} else if err := spec.Check(); err != nil {
			p.add(field, "field credentials: %q: %s", name, err)
		}
	}
	if size > maxCredentialsSize {
		p.add(field, "field credentials: paths and data are %d bytes long: at most %d are allowed", size, maxCredentialsSize)
	}
}

// checkFiles refuses files that no child could be given. ${…} is not refused in them: a file
// is in the language of the program that reads it.
func (s *Server) checkFiles(p *Problems) {
	const field = "files"
	switch {
	case len(s.Files) == 0:
		return
	case s.Transport != TransportStdio:
		p.add(field, "field files: a server of transport %s is not started by the gateway, and has no home for files", s.Transport)
		return
	case len(s.Files) > maxFiles:
		p.add(field, "field files: there are %d: at most %d are allowed", len(s.Files), maxFiles)
		return
	}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(s.Files)) {
		size += len(name) + len(s.Files[name])
		p.wrap(field, credential.CheckFileName(name))
		if len(s.Files[name]) > maxFileSize {
			p.add(field, "field files: %q is %d bytes long: at most %d are allowed", name, len(s.Files[name]), maxFileSize)
		}
	}
	if size > maxFilesSize {
		p.add(field, "field files: names and contents are %d bytes long: at most %d are allowed", size, maxFilesSize)
	}
}

// checkShared refuses one child for all clients where each needs its own.
func (s *Server) checkShared(p *Problems) {
	if !s.Shared || s.Transport != TransportStdio {
		return
	}
	var own []string
	for _, f := range []struct {
		field string
		given bool
	}{{"credentials", len(s.Credentials) > 0}, {"files", len(s.Files) > 0}, {"vault_policies", len(s.VaultPolicies) > 0}} {
		if f.given {
			own = append(own, f.field)
		}
	}
	if len(own) > 0 {
		p.add("shared", "field shared: one process for all clients cannot have %s, which are each client's own: write shared=false", strings.Join(own, ", "))
	}
}

// isPrivateLink reports whether nobody on the network can read requests to the URL.
func isPrivateLink(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "https" || u.Hostname() == "localhost" {
		return true // a text that is not a URL is refused elsewhere
	}
	address, err := netip.ParseAddr(u.Hostname())
	return err == nil && address.IsLoopback()
}

// placeholderStart is the start of a placeholder where none is allowed. A template of Go,
// such as {{.Names}}, is not one.
var placeholderStart = regexp.MustCompile(`\{\{\s*[A-Za-z_]`)

const noPlaceholder = "field %s: it takes no placeholder: policies decide by url, command and args, so write credentials into headers, env or files"

// checkPlaceholders checks that the references of the templates exist.
func (s *Server) checkPlaceholders(p *Problems) {
	for _, fixed := range []struct {
		field string
		texts []string
	}{{"command", []string{s.Command}}, {"args", s.Args}, {"description", []string{s.Description}}} {
		if slices.ContainsFunc(fixed.texts, placeholderStart.MatchString) {
			p.add(fixed.field, noPlaceholder, fixed.field)
		}
	}
	used := map[string]bool{}
	for _, part := range []struct {
		field string
		texts map[string]string
	}{{"headers", s.Headers}, {"env", s.Env}, {"files", s.Files}} {
		for _, name := range slices.Sorted(maps.Keys(part.texts)) {
			template, err := credential.Parse(part.texts[name])
			if err != nil {
				p.add(part.field, "field %s: the value of %q %s", part.field, name, err)
				continue
			}
			for _, ref := range template.Refs() {
				used[ref.Name] = true
				if problem := s.missing(ref, part.field); problem != "" {
					p.add(part.field, "field %s: the value of %q has {{%s}}, %s", part.field, name, ref, problem)
				}
			}
		}
	}
	s.checkUse(p, used)
}

// missing names the thing that the reference in a value of the field lacks, or "".
func (s *Server) missing(ref credential.Ref, field string) string {
	switch ref.Name {
	case credential.VaultName:
		if len(s.VaultPolicies) == 0 {
			return "and its token needs policies: write vault_policies=NAME"
		}
		return ""
	case credential.FileName:
		switch _, known := s.Files[ref.Field]; {
		case field != "env":
			return "and the path of a file can stand in env alone"
		case !known:
			return fmt.Sprintf("and there is no such file: write files=%s=… with its content", ref.Field)
		}
		return ""
	}
	if _, known := s.Credentials[ref.Name]; known {
		return ""
	}
	if ref.Name == "client" || ref.Name == "person" {
		return "which can stand in the path and the data of a credential alone"
	}
	return fmt.Sprintf("and there is no such credential: write credentials=%s=PATH", ref.Name)
}

// checkUse refuses credentials and policies that no value uses: they would be leased
// for nothing.
func (s *Server) checkUse(p *Problems, used map[string]bool) {
	place := "headers"
	if s.Transport == TransportStdio {
		place = "env or files"
	}
	for _, name := range slices.Sorted(maps.Keys(s.Credentials)) {
		if !used[name] && credential.CheckName(name) == nil {
			p.add("credentials", "field credentials: no value uses %q: write {{%s.FIELD}} into %s, or leave it out", name, name, place)
		}
	}
	if len(s.VaultPolicies) > 0 && !used[credential.VaultName] {
		p.add("vault_policies", "field vault_policies: no value uses the token: write {{vault.token}} into %s, or leave it out", place)
	}
}
