package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// people is a Vault at whose userpass method people log in, and ann with the token of her login.
type people struct {
	h        *harness.Harness
	mount    string // the accessor of the login "employees"
	ann      *api.Client
	accessor string // of ann's Vault token
	entity   string
}

const (
	signInResource = "https://mcp.example.com/sign-in/mcp"
	peoplesMount   = "userpass-mcp"
)

// newPeople lets people sign in as the client cursor.
func newPeople(t *testing.T) *people {
	t.Helper()
	p := &people{h: harness.New(t)}
	root := p.h.Vault.Client()
	require.NoError(t, root.Sys().EnableAuthWithOptionsWithContext(t.Context(), peoplesMount, &api.EnableAuthOptions{Type: "userpass"}))
	auths, err := root.Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	p.mount = auths[peoplesMount+"/"].Accessor
	for name, rules := range map[string]string{
		policies.PersonName: policies.Person, policies.PersonClientName("cursor"): policies.PersonClient("cursor"),
	} {
		require.NoError(t, provision.Policy(t.Context(), root, name, rules))
	}
	p.h.Write("mcp/config", harness.Map{"sign_in_logins": harness.Map{"employees": p.mount}})
	p.h.CreateClient("cursor", harness.Map{"allowed_servers": "calculator", "sign_in": true})
	p.h.CreateClient("other", harness.Map{"sign_in": true})
	auth := p.login(t, "ann", nil)
	p.ann, p.accessor, p.entity = p.h.Vault.ClientWithToken(auth.ClientToken), auth.Accessor, auth.EntityID
	return p
}

// login is a login of somebody, whose user is made.
func (p *people) login(t *testing.T, name string, more harness.Map) *api.SecretAuth {
	t.Helper()
	user := harness.Map{
		"password": "the-password-of-" + name, "token_no_default_policy": true, "token_ttl": "1h",
		"token_policies": []string{policies.PersonName, policies.PersonClientName("cursor")},
	}
	for field, value := range more {
		user[field] = value
	}
	p.h.Write("auth/"+peoplesMount+"/users/"+name, user)
	answer, err := p.h.Vault.Client().Logical().WriteWithContext(t.Context(), "auth/"+peoplesMount+"/login/"+name,
		harness.Map{"password": "the-password-of-" + name})
	require.NoError(t, err)
	p.h.Secret(answer.Auth.ClientToken)
	return answer.Auth
}

// asked is a gateway's request, with changes.
func asked(changes harness.Map) harness.Map {
	data := harness.Map{
		"resource": signInResource, "application": "cursor", "login": "employees",
		"application_name": "Cursor", "sign_in_ends": time.Now().Add(12 * time.Hour).Format(time.RFC3339),
	}
	for field, value := range changes {
		data[field] = value
	}
	return data
}

// signIn gets a token as cursor with somebody's Vault token.
func (p *people) signIn(t *testing.T, who *api.Client) *api.Secret {
	t.Helper()
	secret, err := who.Logical().WriteWithContext(t.Context(), "mcp/creds/cursor", asked(nil))
	require.NoError(t, err)
	p.h.Secret(p.h.Token(secret.Data))
	return secret
}

func (p *people) active(secret *api.Secret) bool {
	return p.h.Write("mcp/lookup", harness.Map{"token": secret.Data["token"]})["active"] == true
}

// refusal is why a request for a token is refused.
func refusal(t *testing.T, who *api.Client, changes harness.Map) string {
	t.Helper()
	_, err := who.Logical().WriteWithContext(t.Context(), "mcp/creds/cursor", asked(changes))
	require.Error(t, err)
	return err.Error()
}

func TestAPersonGetsATokenForOneResource(t *testing.T) {
	p := newPeople(t)
	secret := p.signIn(t, p.ann)
	require.Equal(t, 900, secret.LeaseDuration)
	require.False(t, secret.Renewable)
	found := p.h.Write("mcp/lookup", harness.Map{"token": secret.Data["token"]})
	for field, want := range map[string]string{
		"resource": signInResource, "application": "cursor", "login": "employees", "person": "ann",
		"entity_id": p.entity, "sign_in": p.accessor, "client": "cursor",
	} {
		require.Equal(t, want, secret.Data[field], field)
		require.Equal(t, want, found[field], field)
	}
	_, err := p.ann.Sys().RenewWithContext(t.Context(), secret.LeaseID, 3600)
	require.Error(t, err)
	_, err = p.h.Vault.Client().Sys().RenewWithContext(t.Context(), secret.LeaseID, 3600)
	require.ErrorContains(t, err, "not renewable")
	gateway := loginAsGateway(t, p.h)
	list, err := gateway.Logical().ReadWithContext(t.Context(), "mcp/gateway/sign-in")
	require.NoError(t, err)
	require.Equal(t, []any{"employees"}, list.Data["logins"])
	require.Contains(t, list.Data["clients"], "cursor")
}

// The command that a row names ends the person's Vault token, and so the token of the sign-in.
func TestTheCommandOfASignInsRowEndsIt(t *testing.T) {
	p := newPeople(t)
	first, second := p.signIn(t, p.ann), p.signIn(t, p.ann)
	require.Equal(t, []string{p.accessor}, p.h.List("mcp/sign-ins"))
	row := p.h.Read("mcp/sign-ins/" + p.accessor)
	require.Equal(t, "ann", row["person"])
	require.Equal(t, "cursor", row["client"])
	require.Equal(t, "Cursor", row["application_name"])

	accessor, ok := strings.CutPrefix(row["end_with"].(string), "vault token revoke -accessor ")
	require.True(t, ok)
	require.NoError(t, p.h.Vault.Client().Auth().Token().RevokeAccessorWithContext(t.Context(), accessor))
	p.h.Within(time.Second, "the end of both tokens", func() error {
		if p.active(first) || p.active(second) {
			return errors.New("one is active")
		}
		return nil
	})
	require.Equal(t, row, p.h.Read("mcp/sign-ins/"+p.accessor), "it stays listed until its end")
	require.Contains(t, refusal(t, p.ann, nil), "Code: 403")
}

func TestATokenOfASignInEndsWhenThePersonsVaultTokenExpires(t *testing.T) {
	p := newPeople(t)
	secret := p.signIn(t, p.ann)
	_, err := p.ann.Auth().Token().RenewSelfWithContext(t.Context(), 1)
	require.NoError(t, err)
	p.h.Within(10*time.Second, "the end of the token", func() error {
		if p.active(secret) {
			return errors.New("it is active")
		}
		return nil
	})
}

func TestUpdateAloneIsEnoughToSignInAndForNothingElse(t *testing.T) {
	p := newPeople(t)
	able, err := p.ann.Sys().CapabilitiesSelfWithContext(t.Context(), "mcp/creds/cursor")
	require.NoError(t, err)
	require.Equal(t, []string{"update"}, able)
	p.signIn(t, p.ann)
	for what, u := range map[string]use{
		"a read":                       {http.MethodGet, "mcp/creds/cursor", nil},
		"a token without a resource":   {http.MethodPut, "mcp/creds/cursor", harness.Map{"ttl": "1h"}},
		"a token without a login":      {http.MethodPut, "mcp/creds/cursor", harness.Map{"resource": signInResource, "application": "cursor"}},
		"a token of another client":    {http.MethodPut, "mcp/creds/other", asked(nil)},
		"the list of who is signed in": {"LIST", "mcp/sign-ins/", nil},
		"their own row":                {http.MethodGet, "mcp/sign-ins/" + p.accessor, nil},
	} {
		require.True(t, denied(t.Context(), p.ann, u), what)
	}
}

func TestADisabledPersonGetsNoTokenMore(t *testing.T) {
	p := newPeople(t)
	secret := p.signIn(t, p.ann)
	p.h.Write("identity/entity/id/"+p.entity, harness.Map{"disabled": true})
	require.Contains(t, refusal(t, p.ann, nil), "Code: 403")
	require.True(t, p.active(secret), "which is why it lives for a quarter of an hour at most")
	p.h.Write("identity/entity/id/"+p.entity, harness.Map{"disabled": false})
	p.signIn(t, p.ann)
}

// TestNobodySignsInAsSomebodyElse tries it in a real Vault: with aliases that one may choose,
// with Vault tokens that are nobody's, and with fields.
func TestNobodySignsInAsSomebodyElse(t *testing.T) {
	p := newPeople(t)
	root := p.h.Vault.Client()
	p.h.Write("auth/token/roles/chooser", harness.Map{
		"allowed_entity_aliases": "ann", "allowed_policies": policies.PersonClientName("cursor"), "token_no_default_policy": true,
	})
	minted := func(path string, data harness.Map) *api.Client {
		secret, err := root.Logical().WriteWithContext(t.Context(), path, data)
		require.NoError(t, err)
		p.h.Secret(secret.Auth.ClientToken)
		return p.h.Vault.ClientWithToken(secret.Auth.ClientToken)
	}
	of := harness.Map{"policies": []string{policies.PersonClientName("cursor")}}
	chosen := minted("auth/token/create/chooser", harness.Map{"policies": of["policies"], "entity_alias": "ann"})
	require.Contains(t, refusal(t, chosen, nil), `has no alias at the login "employees"`)
	nobody := minted("auth/token/create", of)
	require.Contains(t, refusal(t, nobody, nil), "has no entity")
	require.Contains(t, refusal(t, root, nil), "has no entity")
	batch := p.login(t, "bob", harness.Map{"token_type": "batch"})
	require.Contains(t, refusal(t, p.h.Vault.ClientWithToken(batch.ClientToken), nil), "a batch token asks")

	for _, field := range []string{"person", "entity_id", "sign_in", "alias", "display_name"} {
		require.Contains(t, refusal(t, p.ann, harness.Map{field: "bob"}), fmt.Sprintf("unknown field %q", field))
	}
	require.Contains(t, refusal(t, p.ann, harness.Map{"login": "contractors"}), `no login "contractors" is known`)

	// Neither the name that an administrator gave to the entity nor her alias at another mount is
	// her name.
	p.h.Write("identity/entity/id/"+p.entity, harness.Map{"name": "bob", "metadata": harness.Map{"name": "bob"}})
	require.NoError(t, root.Sys().EnableAuthWithOptionsWithContext(t.Context(), "userpass-other", &api.EnableAuthOptions{Type: "userpass"}))
	auths, err := root.Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	p.h.Write("identity/entity-alias", harness.Map{"name": "bob", "canonical_id": p.entity, "mount_accessor": auths["userpass-other/"].Accessor})
	require.Equal(t, "ann", p.signIn(t, p.ann).Data["person"])

	_, err = root.Logical().WriteWithContext(t.Context(), "mcp/config", harness.Map{"sign_in_logins": harness.Map{"chosen": auths["token/"].Accessor}})
	require.ErrorContains(t, err, "chooses its alias")
}

func TestAnAssertionIsUsedOnceInTheWholeOfVault(t *testing.T) {
	p := newPeople(t)
	used := asked(harness.Map{"assertion_id": "the-id-of-an-assertion", "assertion_expires": time.Now().Add(time.Minute).Unix()})
	secret, err := p.ann.Logical().WriteWithContext(t.Context(), "mcp/creds/cursor", used)
	require.NoError(t, err)
	p.h.Secret(p.h.Token(secret.Data))
	bob := p.h.Vault.ClientWithToken(p.login(t, "bob", nil).ClientToken)
	for _, who := range []*api.Client{p.ann, bob} {
		_, err := who.Logical().WriteWithContext(t.Context(), "mcp/creds/cursor", used)
		require.ErrorContains(t, err, "Code: 400")
		require.ErrorContains(t, err, "the assertion was used before")
	}
	for _, log := range p.h.Logs() {
		require.NotContains(t, log, "the-id-of-an-assertion")
	}
}

func TestASignInIsWrappedIntoACodeAndKeepsItsGenerations(t *testing.T) {
	p := newPeople(t)
	wrapping := p.h.Vault.ClientWithToken(p.ann.Token())
	wrapping.SetWrappingLookupFunc(func(string, string) string { return "60s" })
	wrapped, err := wrapping.Logical().WriteWithContext(t.Context(), "sys/wrapping/wrap", harness.Map{"t": "x"})
	require.NoError(t, err)
	p.h.Secret(wrapped.WrapInfo.Token)
	opened, err := p.h.Vault.Client().Logical().UnwrapWithContext(t.Context(), wrapped.WrapInfo.Token)
	require.NoError(t, err)
	require.Equal(t, "x", opened.Data["t"])
	for n := range 3 {
		_, err := p.ann.Logical().WriteWithContext(t.Context(), fmt.Sprint("cubbyhole/mcp-sign-in/", n), harness.Map{"at": "now"})
		require.NoError(t, err)
	}
	list, err := p.ann.Logical().ListWithContext(context.Background(), "cubbyhole/mcp-sign-in")
	require.NoError(t, err)
	require.Equal(t, []any{"0", "1", "2"}, list.Data["keys"])
}

func TestAPersonMayDoInVaultWhatASignInNeedsAndNothingElse(t *testing.T) {
	p := newPeople(t)
	holder := stage.Holder(t, p.h, policies.PersonName, policies.Person)
	const put, get = http.MethodPut, http.MethodGet
	acl{h: p.h, name: policies.PersonName, rules: policies.Person, holder: holder, may: []use{
		{get, "auth/token/lookup-self", nil},
		{put, "auth/token/renew-self", nil},
		{put, "sys/capabilities-self", harness.Map{"paths": "mcp/creds/cursor"}},
		{put, "sys/wrapping/wrap", harness.Map{"t": "x"}},
		{put, "cubbyhole/mcp-sign-in/{fresh}", harness.Map{"at": "now"}},
		{put, "cubbyhole/mcp-sign-in/1", harness.Map{"at": "now"}},
		{put, "cubbyhole/mcp-sign-in/1", harness.Map{"at": "later"}},
		{get, "cubbyhole/mcp-sign-in/1", nil},
		{"LIST", "cubbyhole/mcp-sign-in/", nil},
		{http.MethodDelete, "cubbyhole/mcp-sign-in/1", nil},
	}, mayNot: []use{
		{put, "auth/token/create", nil},
		{put, "auth/token/revoke-accessor", harness.Map{"accessor": "a"}},
		{put, "mcp/creds/cursor", asked(nil)},
		{get, "cubbyhole/x", nil},
		{get, "identity/entity/id/" + p.entity, nil},
		{put, "identity/oidc/token/x", nil},
	}, shown: []string{"auth/token/revoke-self"}}.check(t)
	require.NoError(t, p.ann.Auth().Token().RevokeSelfWithContext(t.Context(), ""))
	require.Nil(t, self(t, p.ann))
	require.NotNil(t, self(t, holder))
	require.NoError(t, provision.Policy(t.Context(), p.h.Vault.Client(), policies.PersonName, without(policies.Person, grant{path: "auth/token/revoke-self"}, "update")))
	require.ErrorContains(t, holder.Auth().Token().RevokeSelfWithContext(t.Context(), ""), "Code: 403")
}
