package application

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/signin/keyset"
	"vault-plugin-secrets-mcp/gateway/signin/uri"
)

// rules are the present settings, ready for use.
type rules struct {
	dynamic   bool
	hosts     []string
	schemes   []string
	prefixes  []uri.Prefix
	documents []uri.Prefix
	hostsOf   []string // of documents
	files     map[string]*Application
}

func rulesOf(settings *config.SignIn, remote func(*uri.URI) keySource) (*rules, error) {
	r := &rules{
		dynamic: settings.DynamicRegistration,
		hosts:   settings.RedirectHosts,
		schemes: settings.RedirectSchemes,
		files:   make(map[string]*Application, len(settings.Applications)),
	}
	var err error
	if r.prefixes, err = prefixesOf(settings.RedirectPrefixes); err != nil {
		return nil, err
	}
	if r.documents, err = prefixesOf(settings.MetadataDocuments); err != nil {
		return nil, err
	}
	for _, prefix := range r.documents {
		r.hostsOf = append(r.hostsOf, prefix.Host())
	}
	for i := range settings.Applications {
		a, err := r.fromFile(&settings.Applications[i], settings.RedirectPrefixes, remote)
		if err != nil {
			return nil, fmt.Errorf("sign_in: application %q: %w", settings.Applications[i].ID, err)
		}
		r.files[a.ClientID] = a
	}
	return r, nil
}

func prefixesOf(texts []string) ([]uri.Prefix, error) {
	prefixes := make([]uri.Prefix, len(texts))
	for i, text := range texts {
		var err error
		if prefixes[i], err = uri.ParsePrefix(text); err != nil {
			return nil, err
		}
	}
	return prefixes, nil
}

// fromFile makes the application of a block of the file.
func (r *rules) fromFile(block *config.SignInApplication, prefixes []string, remote func(*uri.URI) keySource) (*Application, error) {
	a := &Application{
		ClientID: block.ID, ID: block.ID, Name: cleanName(block.Name), Vouch: VouchFile, Trusted: block.Trusted, AuthMethod: MethodNone,
	}
	for _, text := range block.RedirectURIs {
		if slices.Contains(prefixes, text) {
			prefix, err := uri.ParsePrefix(text)
			if err != nil {
				return nil, err
			}
			a.prefixes = append(a.prefixes, prefix)
			continue
		}
		u, err := uri.ParseRedirect(text)
		if err != nil {
			return nil, fmt.Errorf("redirect_uris: %w", err)
		}
		a.redirects = append(a.redirects, u)
	}
	switch {
	case block.SecretFile != "":
		secret, err := config.ReadClientSecret(block.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("secret_file: %w", err)
		}
		a.AuthMethod, a.secret = MethodBasic, digest(secret)
	case block.JWKSFile != "":
		text, err := os.ReadFile(block.JWKSFile)
		if err != nil {
			return nil, fmt.Errorf("jwks_file: %w", err)
		}
		set, err := keyset.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("jwks_file: %s: %w", block.JWKSFile, err)
		}
		a.AuthMethod, a.keys = MethodSigned, fixedKeys{set}
	case block.JWKSURI != "":
		u, err := uri.ParseURL(block.JWKSURI)
		if err != nil {
			return nil, fmt.Errorf("jwks_uri: %w", err)
		}
		a.AuthMethod, a.keys = MethodSigned, remote(u)
	}
	return a, nil
}

func digest(secret []byte) []byte {
	sum := sha256.Sum256(secret)
	return bytes.Clone(sum[:])
}

// allowsDocument reports whether the file allows the metadata document at a URL.
func (r *rules) allowsDocument(u *uri.URI) bool {
	return slices.ContainsFunc(r.documents, func(p uri.Prefix) bool { return p.Contains(u) })
}

// allowsStranger reports whether an application that nobody vouches for may redirect there:
// to the person's own machine, and where the file says.
func (r *rules) allowsStranger(u *uri.URI) bool {
	switch u.Kind {
	case uri.Loopback:
		return true
	case uri.Private:
		return slices.Contains(r.schemes, u.Scheme)
	case uri.HTTPS:
	}
	return slices.Contains(r.hosts, u.Host) ||
		slices.ContainsFunc(r.prefixes, func(p uri.Prefix) bool { return p.Contains(u) })
}

// forDocuments are those redirects that an application with a metadata document may use. Its host
// vouches for https ones. Any program on a machine can take a private scheme, so the file must
// name it here too.
func (r *rules) forDocuments(redirects []*uri.URI) []*uri.URI {
	return filter(redirects, func(u *uri.URI) bool {
		return u.Kind != uri.Private || slices.Contains(r.schemes, u.Scheme)
	})
}

func filter(all []*uri.URI, keep func(*uri.URI) bool) []*uri.URI {
	return slices.DeleteFunc(slices.Clone(all), func(u *uri.URI) bool { return !keep(u) })
}
