package bed

import (
	"bytes"
	"net/url"
	"slices"
	"sync"
	"testing"

	"vault-plugin-secrets-mcp/bootstrap/demo/idp"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/test/harness"
)

// The people of the company. Its groups decide which identities they may act as.
const (
	Alice = "alice" // engineering and oncall
	Bob   = "bob"   // engineering
	Carol = "carol" // in no group
)

// staff are all of them, with their groups.
var staff = map[string][]string{Alice: {Engineering, Oncall}, Bob: {Engineering}, Carol: {}}

const (
	// Mount is where people log in for MCP, and Role the role that they get.
	Mount = "oidc-mcp"
	Role  = "mcp"

	// Password is everybody's.
	Password = "correct-horse-battery-staple"

	callback = "/sign-in/callback" // where the provider sends people back
)

// Company is an identity provider, with its set-up in Vault.
type Company struct {
	*idp.IdP
	// Accessor is that of the mount where people log in.
	Accessor string

	h *harness.Harness

	mu    sync.Mutex
	codes []string // those that the provider has given
}

// given notes a code of the provider's.
func (c *Company) given(code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if code != "" {
		c.codes = append(c.codes, code)
	}
}

// gave reports whether a text has a code of the provider's.
func (c *Company) gave(text []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.codes, func(code string) bool { return bytes.Contains(text, []byte(code)) })
}

func newCompany(t *testing.T, h *harness.Harness, public string, more harness.Map) *Company {
	t.Helper()
	options := idp.Options{ClientID: "vault", ClientSecret: "the-secret-of-vault-at-the-provider", RedirectURIs: []string{public + callback}}
	for person, groups := range staff {
		options.People = append(options.People, idp.Person{Name: person, Password: Password, Groups: groups})
	}
	h.Secret(options.ClientSecret)
	h.Secret(Password)
	provider, err := idp.Start(t.Context(), "127.0.0.1:0", options)
	if err != nil {
		t.Fatal(err)
	}
	c := &Company{IdP: provider, h: h}
	h.Write("sys/auth/"+Mount, harness.Map{"type": "oidc"})
	c.Accessor = accessorOf(t, h, Mount)
	h.Write("auth/"+Mount+"/config", harness.Map{
		"oidc_discovery_url": provider.Issuer(), "oidc_client_id": options.ClientID, "oidc_client_secret": options.ClientSecret,
		"default_role": Role,
	})
	settings := harness.Map{
		"user_claim": "sub", "groups_claim": idp.GroupsClaim, "allowed_redirect_uris": public + callback,
		"token_policies": policies.PersonName, "token_ttl": "8h", "token_max_ttl": "12h",
	}
	for key, value := range more {
		settings[key] = value
	}
	h.Write("auth/"+Mount+"/role/"+Role, settings)
	c.grant()
	return c
}

// grant writes the policies, and gives those who belong to the company's groups theirs.
func (c *Company) grant() {
	c.h.Write("sys/policies/acl/"+policies.PersonName, harness.Map{"policy": policies.Person})
	for _, identity := range []string{Engineering, Oncall} {
		name := policies.PersonClientName(identity)
		c.h.Write("sys/policies/acl/"+name, harness.Map{"policy": policies.PersonClient(identity)})
		group := c.h.Write("identity/group", harness.Map{"name": identity, "type": "external", "policies": name})["id"]
		c.h.Write("identity/group-alias", harness.Map{"name": identity, "mount_accessor": c.Accessor, "canonical_id": group})
	}
}

func accessorOf(t *testing.T, h *harness.Harness, mount string) string {
	t.Helper()
	mounts, err := h.Vault.Client().Sys().ListAuthWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return mounts[mount+"/"].Accessor
}

// EntityOf is the id of the person's entity, which their first login has made.
func (c *Company) EntityOf(t *testing.T, person string) string {
	t.Helper()
	found := c.h.Write("identity/lookup/entity", harness.Map{"alias_name": person, "alias_mount_accessor": c.Accessor})
	id, ok := found["id"].(string)
	if !ok {
		t.Fatalf("%s has not logged in", person)
	}
	return id
}

// asks reports whether a page asks for somebody's name and password.
func (c *Company) asks(page *Page) bool {
	return page.URL.Scheme+"://"+page.URL.Host == c.Issuer() && page.Choices("password") != nil
}

// credentials are those that a person types there.
func credentials(person string) url.Values {
	return url.Values{"name": {person}, "password": {Password}, "decision": {"login"}}
}
