package signin

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/signin/application"
	"vault-plugin-secrets-mcp/gateway/signin/keyset"
)

const (
	// resourcePath is the endpoint of all servers.
	resourcePath = IssuerPath + "/mcp"

	scope        = "mcp"
	scopeOffline = "offline_access"

	grantCode    = "authorization_code"
	grantRefresh = "refresh_token"
	grantMachine = "urn:ietf:params:oauth:grant-type:jwt-bearer"

	// profileIDJAG is the name under which an authorization server says that it takes
	// identity assertions of an enterprise's IdP.
	profileIDJAG = "urn:ietf:params:oauth:grant-profile:id-jag"
)

// issuerPaths are all the places at which applications look for the issuer's document: RFC
// 8414 section 3.1, its form for OpenID Connect, and OpenID Connect Discovery's own form, in
// which the well-known part comes last.
var issuerPaths = [...]string{
	"/.well-known/oauth-authorization-server" + IssuerPath,
	"/.well-known/openid-configuration" + IssuerPath,
	IssuerPath + "/.well-known/openid-configuration",
	IssuerPath + "/.well-known/oauth-authorization-server",
}

// resourceMetadata is the document of a protected resource (RFC 9728, section 2).
type resourceMetadata struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	Scopes               []string `json:"scopes_supported"`
	BearerMethods        []string `json:"bearer_methods_supported"`
}

// algorithms are those of signatures (RFC 7518, section 3.1).
type algorithms = []jose.SignatureAlgorithm

// issuerMetadata is the document of the authorization server (RFC 8414, section 2).
type issuerMetadata struct {
	Issuer                string     `json:"issuer"`
	AuthorizationEndpoint string     `json:"authorization_endpoint"`
	TokenEndpoint         string     `json:"token_endpoint"`
	RegistrationEndpoint  string     `json:"registration_endpoint,omitempty"`
	RevocationEndpoint    string     `json:"revocation_endpoint"`
	Scopes                []string   `json:"scopes_supported"`
	ResponseTypes         []string   `json:"response_types_supported"`
	ResponseModes         []string   `json:"response_modes_supported"`
	GrantTypes            []string   `json:"grant_types_supported"`
	GrantProfiles         []string   `json:"authorization_grant_profiles_supported,omitempty"`
	ChallengeMethods      []string   `json:"code_challenge_methods_supported"`
	TokenAuth             []string   `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgorithms   algorithms `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationAuth        []string   `json:"revocation_endpoint_auth_methods_supported"`
	RevocationAlgorithms  algorithms `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	IssParameter          bool       `json:"authorization_response_iss_parameter_supported"`
	MetadataDocuments     bool       `json:"client_id_metadata_document_supported"`
}

// documents are the metadata documents.
type documents struct {
	publicURL string
	issuer    string
	issued    []byte // the issuer's
}

func newDocuments(h *Handler) *documents {
	return &documents{publicURL: h.PublicURL, issuer: h.issuer, issued: encode(h.issuerMetadata())}
}

func encode(document any) []byte {
	text, err := json.Marshal(document)
	if err != nil { // these types always encode
		panic(err)
	}
	return append(text, '\n')
}

func (h *Handler) issuerMetadata() issuerMetadata {
	m := issuerMetadata{
		Issuer:                h.issuer,
		AuthorizationEndpoint: h.PublicURL + authorizePath,
		TokenEndpoint:         h.PublicURL + TokenPath,
		RevocationEndpoint:    h.PublicURL + revokePath,
		Scopes:                []string{scope, scopeOffline},
		ResponseTypes:         []string{"code"},
		ResponseModes:         []string{"query"},
		GrantTypes:            []string{grantCode, grantRefresh},
		ChallengeMethods:      []string{"S256"},
		TokenAuth:             authMethods,
		TokenAuthAlgorithms:   authAlgorithms,
		RevocationAuth:        authMethods,
		RevocationAlgorithms:  authAlgorithms,
		IssParameter:          true,
		MetadataDocuments:     len(h.Settings.MetadataDocuments) > 0,
	}
	if h.Settings.DynamicRegistration {
		m.RegistrationEndpoint = h.PublicURL + registerPath
	}
	if len(h.Settings.Machines) > 0 {
		m.GrantTypes = append(m.GrantTypes, grantMachine)
	}
	for _, machine := range h.Settings.Machines {
		if machine.Profile == config.ProfileIDJAG {
			m.GrantProfiles = []string{profileIDJAG}
		}
	}
	return m
}

// authMethods are the ways in which an application authenticates at the token endpoint, and
// authAlgorithms those of private_key_jwt: see the packages application
// and keyset.
var (
	authMethods    = application.Methods()
	authAlgorithms = keyset.Algorithms()
)

// at returns the document at a path; nil if there is none. A resource's document has the URL
// that was requested, with its slash at the end or without one: applications compare the two
// byte for byte. Every well-formed name of a server has a document, whether there is such a
// server or not, so that the documents do not show which servers exist.
func (d *documents) at(path string) []byte {
	for _, at := range issuerPaths {
		if path == at {
			return d.issued
		}
	}
	typed, ok := strings.CutPrefix(path, access.MetadataPath)
	if !ok || !access.IsResource(strings.TrimSuffix(typed, "/")) {
		return nil
	}
	return encode(resourceMetadata{
		Resource:             d.publicURL + typed,
		AuthorizationServers: []string{d.issuer},
		Scopes:               []string{scope},
		BearerMethods:        []string{"header"},
	})
}

// canonicalResource returns the one spelling of a resource that an application asks for: the
// endpoint of all servers where it names none, or just the gateway. The audience of a token is
// this spelling. Not ok: it is another service's, and no token for it may come from here
// (RFC 8707, section 2: invalid_target).
func (h *Handler) canonicalResource(asked string) (resource string, ok bool) {
	if asked == "" {
		return h.PublicURL + resourcePath, true
	}
	u, err := url.Parse(asked)
	if err != nil || u.Opaque != "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(asked, "#") || u.RawPath != "" {
		return "", false
	}
	public, err := url.Parse(h.PublicURL)
	if err != nil || origin(u) != origin(public) {
		return "", false
	}
	path := strings.TrimSuffix(u.Path, "/")
	switch {
	case path == "":
		return h.PublicURL + resourcePath, true
	case access.IsResource(path):
		return h.PublicURL + path, true
	}
	return "", false
}

// origin is scheme, host and port, in one spelling.
func origin(u *url.URL) string {
	scheme, port := strings.ToLower(u.Scheme), u.Port()
	if port == "" {
		switch scheme {
		case "https":
			port = "443"
		case "http":
			port = "80"
		}
	}
	return scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

func serveDocument(w http.ResponseWriter, r *http.Request, document []byte) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "public, max-age=300")
	header.Set("Content-Length", strconv.Itoa(len(document)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(document) //nolint:gosec // JSON, sent as JSON; the path in it is a well-formed one
	}
}
