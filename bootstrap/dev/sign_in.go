package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/demo/idp"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// With Options.SignIn, people sign in with a browser instead of having a token: at a demo
// identity provider, by Vault's oidc method, as one of two identities.
const signInLogin = "demo"

// signInClients are the identities, each for the group of the same name.
var signInClients = []string{"engineering", "oncall"}

// signInPeople are the two, with passwords of this run.
type signInPeople struct {
	secret    string // of Vault's client at the provider
	passwords map[string]string
	url       string // the provider's
}

// list is them in the order of their names, for the summary.
func (p signInPeople) list() []idp.Person {
	return idp.DemoPeople(func(name string) string { return p.passwords[name] })
}

// signInPath is the path at the gateway that people's MCP clients need.
const signInPath = "/sign-in/mcp"

const signInBlock = `sign_in {
  dynamic_registration = true
  login %q {
    mount = %q
    role  = %q
    title = "Demo company"
  }
}
`

// startIdP runs the provider, at a port that the kernel chooses.
func (s *system) startIdP(ctx context.Context) error {
	s.people = signInPeople{secret: rand.Text(), passwords: map[string]string{}}
	environment := []string{idp.SecretVariable + "=" + s.people.secret}
	for _, person := range idp.DemoPeople(func(string) string { return idp.NewPassword() }) {
		s.people.passwords[person.Name] = person.Password
		environment = append(environment, idp.PasswordVariable+strings.ToUpper(person.Name)+"="+person.Password)
	}
	provider, err := s.group.Start(process.Spec{
		Name: "the demo identity provider",
		Path: s.Self,
		Args: []string{"demo", "idp", "-address=127.0.0.1:0", "-redirect=" + s.gatewayURL() + provision.SignInCallback},
		Env:  environment,
		Log:  s.log("idp"),
	})
	if err != nil {
		return err
	}
	return awaitListening(ctx, provider, idp.Listening, &s.people.url)
}

// provisionSignIn makes Vault's side: the oidc method with its role, the policies of people,
// and the groups that let them act as the identities.
func (s *system) provisionSignIn(ctx context.Context) error {
	vault, err := s.vaultClient()
	if err != nil {
		return err
	}
	if err := provision.Policy(ctx, vault, policies.PersonName, policies.Person); err != nil {
		return err
	}
	accessor, err := oidcMethod(ctx, vault)
	if err != nil {
		return err
	}
	role := provision.PersonRole{
		UserClaim: "sub", GroupsClaim: idp.GroupsClaim, SessionMax: provision.SessionMax,
		RedirectURIs: []string{s.gatewayURL() + provision.SignInCallback},
	}
	for path, data := range map[string]map[string]any{
		"auth/" + provision.SignInMount + "/config": {
			"oidc_discovery_url": s.people.url, "oidc_client_id": idp.DemoClient, "oidc_client_secret": s.people.secret,
		},
		"auth/" + provision.SignInMount + "/role/" + provision.SignInRole: role.Settings(),
		mount + "/config": {"sign_in_logins": map[string]any{signInLogin: accessor}},
	} {
		if err := writeTo(ctx, vault, path, data); err != nil {
			return err
		}
	}
	for _, name := range signInClients {
		if err := provision.Policy(ctx, vault, policies.PersonClientName(name), policies.PersonClient(name)); err != nil {
			return err
		}
		if err := mapGroup(ctx, vault, accessor, name); err != nil {
			return err
		}
	}
	return nil
}

// oidcMethod enables the method if need be, and returns its accessor.
func oidcMethod(ctx context.Context, vault *api.Client) (string, error) {
	auths, err := vault.Sys().ListAuthWithContext(ctx)
	if err == nil && auths[provision.SignInMount+"/"] == nil {
		err = vault.Sys().EnableAuthWithOptionsWithContext(ctx, provision.SignInMount, &api.EnableAuthOptions{
			Type: "oidc", Description: "Made by mcp-bootstrap dev -sign-in",
		})
		if err == nil {
			auths, err = vault.Sys().ListAuthWithContext(ctx)
		}
	}
	if err != nil {
		return "", fmt.Errorf("cannot enable the oidc method at %s: %w", provision.SignInMount, connect.Explain(err))
	}
	if auths[provision.SignInMount+"/"] == nil {
		return "", errNoOIDC
	}
	return auths[provision.SignInMount+"/"].Accessor, nil
}

var errNoOIDC = errors.New("the oidc method is not among Vault's auth methods")

// mapGroup lets the people of a group at the provider act as the client of the same name.
func mapGroup(ctx context.Context, vault *api.Client, accessor, name string) error {
	path := "identity/group/name/" + provision.SignInGroup(signInLogin, name)
	data := map[string]any{"type": "external", "policies": []string{policies.PersonClientName(name)}}
	if err := writeTo(ctx, vault, path, data); err != nil {
		return err
	}
	group, err := vault.Logical().ReadWithContext(ctx, path)
	if err != nil || group == nil {
		return fmt.Errorf("cannot read %s: %w", path, connect.Explain(err))
	}
	if alias, _ := group.Data["alias"].(map[string]any); alias["mount_accessor"] == accessor {
		return nil // of an earlier run
	}
	return writeTo(ctx, vault, "identity/group-alias", map[string]any{"name": name, "mount_accessor": accessor, "canonical_id": group.Data["id"]})
}

// registerSignIn registers the identities.
func (s *system) registerSignIn(write func(path string, data map[string]any) (*api.Secret, error)) error {
	for name, data := range map[string]map[string]any{
		signInClients[0]: {"allowed_servers": s.allowed(), "metadata": map[string]any{"description": "Everyday work"}},
		signInClients[1]: {"allowed_servers": append(slices.Clone(s.allowed()), notesServer), "metadata": map[string]any{"description": "On call: the notes as well"}},
	} {
		data["sign_in"] = true
		if _, err := write("clients/"+name, data); err != nil {
			return err
		}
	}
	return nil
}

// publicURL is a line of the gateway's file; empty without Options.SignIn.
func (s *system) publicURL() string {
	if !s.SignIn {
		return ""
	}
	return fmt.Sprintf("\n  public_url = %q", s.gatewayURL())
}

// gatewaySignIn is the block of the gateway's file; empty without Options.SignIn.
func (s *system) gatewaySignIn() string {
	if !s.SignIn {
		return ""
	}
	return fmt.Sprintf(signInBlock, signInLogin, provision.SignInMount, provision.SignInRole)
}
