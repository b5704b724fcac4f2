package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// Blocks of files, and kinds of things, that are Vault's side of sign-in.
const (
	kindSignIn  = "sign_in"
	kindLogin   = "login"
	kindMachine = "machine"
)

// hclSignIn is a block sign_in.
type hclSignIn struct {
	PublicURL  string       `hcl:"public_url,optional"`
	SessionMax *string      `hcl:"session_max"`
	Logins     []hclLogin   `hcl:"login,block"`
	Machines   []hclMachine `hcl:"machine,block"`
}

// hclLogin is how people log in: an oidc method of Vault.
type hclLogin struct {
	Name           string              `hcl:"name,label"`
	Mount          *string             `hcl:"mount"`
	Role           *string             `hcl:"role"`
	DiscoveryURL   string              `hcl:"discovery_url"`
	DiscoveryCA    string              `hcl:"discovery_ca_pem,optional"`
	ClientID       string              `hcl:"client_id"`
	ClientSecret   string              `hcl:"client_secret"`
	ProviderConfig cty.Value           `hcl:"provider_config,optional"` // an object of texts, numbers and truths
	BoundClaims    map[string]string   `hcl:"bound_claims,optional"`
	Scopes         []string            `hcl:"scopes,optional"`
	UserClaim      *string             `hcl:"user_claim"`
	GroupsClaim    string              `hcl:"groups_claim,optional"`
	RedirectURIs   []string            `hcl:"redirect_uris,optional"`
	Clients        []string            `hcl:"clients,optional"`
	Policies       []string            `hcl:"policies,optional"`
	Groups         map[string][]string `hcl:"groups,optional"`
}

// hclMachine is a login of machines: an auth method that apply does not set up.
type hclMachine struct {
	Name  string `hcl:"name,label"`
	Mount string `hcl:"mount"`
}

// signIn is how people and machines shall sign in.
type signIn struct {
	at       place
	logins   []login
	machines []machine
}

// login is one of people, with an oidc method and a role of its own.
type login struct {
	at          place
	name, mount string
	roleName    string
	config      map[string]any // of the method, as Vault reads it back
	secret      string         // of the client at the identity provider; Vault never shows it
	role        provision.PersonRole
	groups      map[string][]string // of the identity provider, to clients of the engine
}

// machine is a login of machines.
type machine struct {
	at          place
	name, mount string
}

func (d *desired) addSignIn(at place, block *hclsyntax.Block, f hclSignIn) {
	if d.signIn != nil {
		d.mistake(at.of(""), fmt.Errorf("a block %s is in %s already: keep one of them", kindSignIn, d.signIn.at.of("")))
		return
	}
	life := provision.SessionMax
	if f.SessionMax != nil {
		parsed, err := check.Duration(*f.SessionMax)
		if err == nil {
			err = provision.CheckSessionMax(parsed)
		}
		if err != nil {
			d.mistake(at.of("session_max"), fmt.Errorf("%s: field session_max: %w", kindSignIn, err))
		}
		life = parsed
	}
	if f.PublicURL != "" {
		if err := provision.CheckPublicURL(f.PublicURL); err != nil {
			d.mistake(at.of("public_url"), fmt.Errorf("%s: field public_url: %w", kindSignIn, err))
		}
	}
	d.signIn = &signIn{at: at}
	for i, at := range places(at.file, block.Body, kindLogin) {
		d.addLogin(at, f.Logins[i], f.PublicURL, life)
	}
	for i, at := range places(at.file, block.Body, kindMachine) {
		d.addMachine(at, f.Machines[i])
	}
	if len(d.signIn.logins)+len(d.signIn.machines) == 0 {
		d.mistake(at.of(""), errNoLogin)
	}
}

// nth is a block of a type, by its place among them.
func nth(body *hclsyntax.Body, kind string, n int) *hclsyntax.Block {
	for _, block := range body.Blocks {
		if block.Type != kind {
			continue
		}
		if n == 0 {
			return block
		}
		n--
	}
	return nil
}

var (
	errNoLogin     = errors.New(`sign_in: a block login "NAME" or machine "NAME" is needed`)
	errNoRedirect  = errors.New("field public_url of sign_in, or redirect_uris here, is needed: the identity provider sends people back to the gateway")
	errNoClaim     = errors.New("field groups_claim is needed where groups are mapped: it names the claim with a person's groups")
	errNobodyMay   = errors.New("no client is named in clients or groups: a person who logs in here can act as none")
	errOneSpelling = errors.New("names that differ in case alone are one name for Vault: keep one of them")
)

func (d *desired) addLogin(at place, f hclLogin, publicURL string, life time.Duration) {
	l := login{at: at, name: f.Name, mount: provision.SignInMount, roleName: provision.SignInRole, secret: strings.TrimSpace(f.ClientSecret), groups: f.Groups}
	if f.Mount != nil {
		l.mount = strings.Trim(*f.Mount, "/")
	}
	if f.Role != nil {
		l.roleName = *f.Role
	}
	userClaim := "sub"
	if f.UserClaim != nil {
		userClaim = *f.UserClaim
	}
	redirects := f.RedirectURIs
	if len(redirects) == 0 && publicURL != "" {
		redirects = []string{strings.TrimSuffix(publicURL, "/") + provision.SignInCallback}
	}
	l.role = provision.PersonRole{
		UserClaim: userClaim, GroupsClaim: f.GroupsClaim, BoundClaims: f.BoundClaims, Scopes: f.Scopes, RedirectURIs: redirects,
		Clients: unique(f.Clients), Policies: unique(f.Policies), SessionMax: life,
	}
	l.config = map[string]any{
		"oidc_discovery_url": f.DiscoveryURL, "oidc_client_id": f.ClientID, "default_role": "",
		"oidc_discovery_ca_pem": strings.TrimSpace(f.DiscoveryCA),
		// Under form_post the answer comes from another site, without the browser's cookie.
		"oidc_response_mode": "query",
	}
	provider, err := objectOf(f.ProviderConfig)
	if err != nil {
		d.mistake(at.of(fieldProvider), fmt.Errorf("login %q: field %s: %w", f.Name, fieldProvider, err))
	}
	l.config[fieldProvider] = provider
	d.judgeLogin(&l)
	d.signIn.logins = append(d.signIn.logins, l)
}

// fieldProvider has settings for one kind of identity provider. Some are keys of accounts there.
const fieldProvider = "provider_config"

var errNoObject = errors.New("it is not an object, such as { provider = \"azure\" }")

// objectOf is an object of a file as Vault takes it.
func objectOf(value cty.Value) (map[string]any, error) {
	object := map[string]any{}
	if value == cty.NilVal || value.IsNull() {
		return object, nil
	}
	if !value.Type().IsObjectType() {
		return object, errNoObject
	}
	text, err := ctyjson.Marshal(value, value.Type())
	if err != nil {
		return object, err
	}
	return object, json.Unmarshal(text, &object)
}

// judgeLogin notes the mistakes of a login.
func (d *desired) judgeLogin(l *login) {
	wrong := func(field string, err error) {
		if err != nil {
			d.mistake(l.at.of(field), fmt.Errorf("login %q: %w", l.name, err))
		}
	}
	of := func(field string, err error) {
		if err != nil {
			wrong(field, fmt.Errorf("field %s: %w", field, err))
		}
	}
	wrong("", d.judgePlace(l.name, l.mount))
	of("mount", provision.CheckAuthMount(l.mount))
	of("role", provision.CheckRoleName(l.roleName))
	for field, value := range map[string]any{"discovery_url": l.config["oidc_discovery_url"], "client_id": l.config["oidc_client_id"], "client_secret": l.secret, "user_claim": l.role.UserClaim} {
		if value == "" {
			of(field, errEmpty)
		}
	}
	if len(l.role.RedirectURIs) == 0 {
		wrong("", errNoRedirect)
	}
	for _, name := range l.role.Policies {
		of("policies", provision.CheckPersonPolicy(name))
	}
	if len(l.groups) > 0 && l.role.GroupsClaim == "" {
		wrong("groups", errNoClaim)
	}
	if len(l.groups)+len(l.role.Clients) == 0 {
		wrong("", errNobodyMay)
	}
	seen := map[string]string{}
	for _, group := range slices.Sorted(maps.Keys(l.groups)) {
		name := provision.SignInGroup(l.name, group)
		if other, twice := seen[name]; twice {
			of("groups", fmt.Errorf("%q and %q: %w", other, group, errOneSpelling))
		}
		seen[name] = group
	}
}

var errEmpty = errors.New("it is empty")

func (d *desired) addMachine(at place, f hclMachine) {
	m := machine{at: at, name: f.Name, mount: strings.Trim(f.Mount, "/")}
	err := errors.Join(d.judgePlace(m.name, m.mount), provision.CheckAuthMount(m.mount))
	if err != nil {
		d.mistake(at.of("mount"), fmt.Errorf("machine %q: %w", m.name, err))
	}
	d.signIn.machines = append(d.signIn.machines, m)
}

// judgePlace refuses names that are not valid or were given before, and mounts of others: the
// engine tells logins apart by their mounts.
func (d *desired) judgePlace(name, mount string) error {
	if err := check.LoginName(name); err != nil {
		return err
	}
	for other, at := range d.signIn.mounts() {
		switch {
		case other == name:
			return fmt.Errorf("the name %q stands before: keep one of them", name)
		case at == mount:
			return fmt.Errorf("field mount: %s is that of %q, too: each needs its own", mount, other)
		}
	}
	return nil
}

// mounts are the auth methods of all logins, by their names.
func (s *signIn) mounts() map[string]string {
	mounts := map[string]string{}
	if s == nil {
		return mounts
	}
	for i := range s.logins {
		mounts[s.logins[i].name] = s.logins[i].mount
	}
	for _, m := range s.machines {
		mounts[m.name] = m.mount
	}
	return mounts
}

// checkSignIn compares the logins with the clients of the files.
func (d *desired) checkSignIn() {
	open := d.signInClients()
	granted := map[string]bool{}
	if d.signIn != nil {
		for i := range d.signIn.logins {
			l := &d.signIn.logins[i]
			named := map[string][]string{"clients": l.role.Clients, "groups": slices.Concat(slices.Collect(maps.Values(l.groups))...)}
			for _, field := range []string{"clients", "groups"} {
				for _, name := range unique(named[field]) {
					granted[name] = true
					if !slices.Contains(open, name) {
						d.mistake(l.at.of(field), fmt.Errorf("login %q: field %s: no file has a client %q with sign_in = true", l.name, field, name))
					}
				}
			}
		}
	}
	for _, name := range open {
		if !granted[name] {
			d.notes = append(d.notes, fmt.Sprintf("nobody may sign in as the client %q: no login of a block %s names it, so give people the ACL policy of its path in another way", name, kindSignIn))
		}
	}
}

// signInClients are the clients of the files that people may act as.
func (d *desired) signInClients() []string {
	var open []string
	for _, c := range d.clients {
		if c.fields["sign_in"] == true {
			open = append(open, c.name)
		}
	}
	return open
}
