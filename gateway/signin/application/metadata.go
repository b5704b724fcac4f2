package application

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/gateway/signin/keyset"
	"vault-plugin-secrets-mcp/gateway/signin/uri"
)

// metadata is an application's description of itself (RFC 7591 §2), in a document or
// when it registers. Members that we do not use are not read.
type metadata struct {
	ClientID      string
	Name          string
	Redirects     []*uri.URI
	AuthMethod    string // "" if it says nothing
	GrantTypes    []string
	ResponseTypes []string
	JWKS          json.RawMessage
	JWKSURI       string

	hasSecret bool
	keys      *keyset.Set // of JWKS, in a document
}

// maxRedirects bounds the redirect URIs of one application.
const maxRedirects = 30

// A metadataError says which member is wrong.
type metadataError struct {
	member string
	text   string
}

func (e *metadataError) Error() string { return e.member + " " + e.text }

// parseMetadata reads the members. One that is null or empty counts as absent, as one that
// is not there: programs send both (field notes of VS Code, Zed and LM Studio).
//
// A redirect URI that is not allowed anywhere is an error, so that who registers learns of
// it. Of a document, which is written for many authorization servers, it is left out.
func parseMetadata(body []byte, document bool) (*metadata, error) {
	var members map[string]json.RawMessage // names count letter by letter
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return nil, errors.New("it is not a JSON object")
	}
	m := &metadata{}
	var redirects []string
	for _, one := range []struct {
		name string
		dst  any
	}{
		{"client_id", &m.ClientID},
		{"client_name", &m.Name},
		{"redirect_uris", &redirects},
		{"token_endpoint_auth_method", &m.AuthMethod},
		{"grant_types", &m.GrantTypes},
		{"response_types", &m.ResponseTypes},
		{"jwks_uri", &m.JWKSURI},
	} {
		if raw, ok := members[one.name]; ok {
			if err := json.Unmarshal(raw, one.dst); err != nil {
				return nil, &metadataError{one.name, "has another type than RFC 7591 gives it"}
			}
		}
	}
	if raw, ok := members["jwks"]; ok && string(raw) != "null" {
		m.JWKS = raw
	}
	_, m.hasSecret = members["client_secret"]
	m.Name = cleanName(m.Name)
	return m, m.readRedirects(redirects, document)
}

func (m *metadata) readRedirects(texts []string, lenient bool) error {
	if len(texts) > maxRedirects {
		return &metadataError{"redirect_uris", fmt.Sprintf("has %d entries: at most %d are allowed", len(texts), maxRedirects)}
	}
	for i, text := range texts {
		u, err := uri.ParseRedirect(text)
		switch {
		case err != nil && lenient:
			continue
		case err != nil:
			return &metadataError{"redirect_uris", fmt.Sprintf("entry %d is not allowed: %v", i+1, err)}
		}
		m.Redirects = append(m.Redirects, u)
	}
	return nil
}

// checkFlow refuses applications that could not use the answers of the token endpoint.
// Absent members have RFC 7591's defaults: authorization_code, and code.
func (m *metadata) checkFlow() error {
	switch {
	case len(m.Redirects) == 0:
		return &metadataError{"redirect_uris", "is empty: name the URIs to which the application may be redirected"}
	case len(m.GrantTypes) > 0 && !slices.Contains(m.GrantTypes, "authorization_code"):
		return &metadataError{"grant_types", "does not have authorization_code, with which people sign in"}
	case len(m.ResponseTypes) > 0 && !slices.ContainsFunc(m.ResponseTypes, isCode):
		return &metadataError{"response_types", "does not have code, the one that is supported"}
	}
	return nil
}

func isCode(responseType string) bool { return strings.TrimSpace(responseType) == "code" }
