package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"vault-plugin-secrets-mcp/gateway/signin/uri"
)

var (
	loginForm       = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	applicationForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

const (
	maxLoginLen       = 32
	maxApplicationLen = 128
	maxTitleLen       = 100
	maxNameLen        = 200
)

func (d *decoder) signIn(s *section, public *url.URL) *SignIn {
	c := &SignIn{
		SessionMax:          s.duration("session_max", 12*time.Hour, 15*time.Minute, 30*24*time.Hour),
		PersonPolicies:      s.listOr("person_policies", "default", "mcp-person*"),
		DynamicRegistration: s.boolean("dynamic_registration"),
		RedirectHosts:       s.list("redirect_hosts"),
		RedirectSchemes:     s.list("redirect_schemes"),
		RedirectPrefixes:    s.list("redirect_prefixes"),
		MetadataDocuments:   s.list("metadata_documents"),
	}
	origin, err := signInOrigin(public)
	if err != nil {
		d.problem(s.body.MissingItemRange(), "sign_in: %v", err)
	}
	c.Origin = origin
	s.checkPersonPolicies(c.PersonPolicies)
	s.checkRedirects(c)
	names := map[string]bool{} // the engine knows logins of both kinds by their names
	for _, block := range s.labelled("login") {
		d.loginName(block, names)
		c.Logins = append(c.Logins, d.signInLogin(d.section(block.Body, "login"), block.Labels[0]))
	}
	for _, block := range s.labelled("machine") {
		d.loginName(block, names)
		c.Machines = append(c.Machines, d.signInMachine(d.section(block.Body, "machine"), block.Labels[0], c.Machines))
	}
	for _, block := range s.labelled("application") {
		d.applicationID(block, c.Applications)
		c.Applications = append(c.Applications, d.signInApplication(d.section(block.Body, "application"), block.Labels[0], c.RedirectPrefixes))
	}
	if len(c.Logins)+len(c.Machines) == 0 {
		d.problem(s.body.MissingItemRange(), "sign_in needs a login or a machine: login \"NAME\" { mount = \"…\"  role = \"…\" } names the oidc auth method in Vault with which people log in")
	}
	s.end()
	return c
}

// signInOrigin returns the origin with which every URL of sign-in begins.
func signInOrigin(public *url.URL) (string, error) {
	const remedy = "give listener its public_url, such as \"https://mcp.example.com\""
	switch {
	case public == nil:
		return "", fmt.Errorf("there is no public_url, with which the URLs of sign-in begin: %s", remedy)
	case public.Path != "" && public.Path != "/":
		return "", fmt.Errorf("public_url has a path: sign-in has its URLs at a host of its own: %s", remedy)
	}
	u, err := uri.Parse(strings.ToLower(public.Scheme + "://" + public.Host))
	if err != nil {
		return "", fmt.Errorf("public_url cannot be used for sign-in: %w: %s", err, remedy)
	}
	return u.Scheme + "://" + u.Host, nil
}

// checkPersonPolicies refuses lists that an administrator's token would pass.
func (s *section) checkPersonPolicies(policies []string) {
	const setting, root = "person_policies", "root"
	if len(policies) == 0 && s.has(setting) {
		s.bad(setting, "an empty list lets nobody sign in, since every token of Vault has a policy: leave the setting out, or name the policies of people")
	}
	for _, name := range policies {
		prefix := strings.TrimSuffix(name, "*")
		switch {
		case prefix == "":
			s.bad(setting, "%q lets the tokens of administrators through: name the policies of people, such as \"mcp-person*\"", name)
		case prefix == root || name != prefix && strings.HasPrefix(root, prefix):
			s.bad(setting, "%q lets the policy root through: no application may have such a token", name)
		case strings.Contains(prefix, "*"), prefix != strings.ToLower(prefix), strings.ContainsFunc(prefix, unicode.IsSpace):
			s.bad(setting, "%q is not a valid name of a policy: Vault's names have no upper-case letters; one \"*\" at the end stands for any rest", name)
		}
	}
}

func (s *section) checkRedirects(c *SignIn) {
	for _, host := range c.RedirectHosts {
		if err := uri.CheckHost(host); err != nil {
			s.bad("redirect_hosts", "%v", err)
		}
	}
	for _, scheme := range c.RedirectSchemes {
		if err := uri.CheckScheme(scheme); err != nil {
			s.bad("redirect_schemes", "%v", err)
		}
	}
	for _, text := range c.RedirectPrefixes {
		if prefix, err := uri.ParsePrefix(text); err != nil {
			s.bad("redirect_prefixes", "%v", err)
		} else if !prefix.Open() {
			s.bad("redirect_prefixes", "%q does not end with a slash: write it as %q", text, text+"/")
		}
	}
	for _, text := range c.MetadataDocuments {
		if _, err := uri.ParsePrefix(text); err != nil {
			s.bad("metadata_documents", "%v", err)
		}
	}
}

// loginName checks the name of a block login or machine.
func (d *decoder) loginName(block *hclsyntax.Block, names map[string]bool) {
	name := block.Labels[0]
	switch {
	case !loginForm.MatchString(name) || len(name) > maxLoginLen:
		d.problem(block.LabelRanges[0], "%s: %q is not a valid name: use at most %d lower-case letters, digits and -, and begin with a letter or digit", block.Type, name, maxLoginLen)
	case names[name]:
		d.problem(block.LabelRanges[0], "%s %q: another login or machine has this name: the engine knows both by it", block.Type, name)
	}
	names[name] = true
}

func (d *decoder) signInLogin(s *section, name string) SignInLogin {
	l := SignInLogin{
		Name:  name,
		Mount: s.mount("mount"),
		Role:  s.role("role"),
		Title: s.str("title", ""),
	}
	s.checkText("title", l.Title, maxTitleLen)
	if l.Title == "" {
		l.Title = name
	}
	s.end()
	return l
}

func (d *decoder) signInMachine(s *section, name string, others []SignInMachine) SignInMachine {
	m := SignInMachine{
		Name:      name,
		Method:    s.choice("method", AuthJWT, AuthJWT, AuthKubernetes),
		Mount:     s.mount("mount"),
		Role:      s.role("role"),
		Issuer:    s.str("issuer", ""),
		SingleUse: s.boolean("single_use"),
		Profile:   s.str("profile", ProfilePlain),
	}
	s.required("issuer", m.Issuer)
	if m.Issuer == "" && s.has("issuer") || len(m.Issuer) > 512 || strings.ContainsFunc(m.Issuer, func(c rune) bool { return c <= ' ' || c > '~' }) {
		s.bad("issuer", "%q is not a valid issuer: write the iss of the assertions, such as \"https://token.example.com\"", m.Issuer)
	}
	if m.Profile != ProfilePlain && m.Profile != ProfileIDJAG {
		s.bad("profile", "%q is not a profile: write %q for the assertions of an enterprise's IdP, or leave it out", m.Profile, ProfileIDJAG)
	}
	if m.Profile == ProfileIDJAG && m.Method != AuthJWT {
		s.bad("profile", "the kubernetes method takes service accounts' tokens alone: %q needs method = \"jwt\"", ProfileIDJAG)
	}
	for _, other := range others {
		if other.Issuer == m.Issuer && other.Profile == m.Profile && m.Issuer != "" {
			s.bad("issuer", "machine %q has the same issuer: it would not be known whose mount an assertion is for: put both into one", other.Name)
		}
	}
	s.end()
	return m
}

// applicationID checks the name of a block application, which is the client_id.
func (d *decoder) applicationID(block *hclsyntax.Block, others []SignInApplication) {
	id := block.Labels[0]
	switch {
	case !applicationForm.MatchString(id) || len(id) > maxApplicationLen:
		d.problem(block.LabelRanges[0], "application: %q is not a valid client_id: use at most %d letters, digits, dots, _ and -, and begin with a letter or digit", id, maxApplicationLen)
	case strings.HasPrefix(id, DynamicPrefix):
		d.problem(block.LabelRanges[0], "application: %q begins as the client_ids of dynamic registrations do: choose another one", id)
	case slices.ContainsFunc(others, func(other SignInApplication) bool { return other.ID == id }):
		d.problem(block.LabelRanges[0], "application %q has a second block: put both into one", id)
	}
}

func (d *decoder) signInApplication(s *section, id string, prefixes []string) SignInApplication {
	a := SignInApplication{
		ID:           id,
		Name:         s.str("name", ""),
		RedirectURIs: s.list("redirect_uris"),
		SecretFile:   s.clientSecret("secret_file"),
		JWKSFile:     s.publicKeys("jwks_file"),
		JWKSURI:      s.str("jwks_uri", ""),
		Trusted:      s.boolean("trusted"),
	}
	s.checkText("name", a.Name, maxNameLen)
	if a.Name == "" {
		a.Name = id
	}
	if a.JWKSURI != "" {
		if _, err := uri.ParseURL(a.JWKSURI); err != nil {
			s.bad("jwks_uri", "%s: %v", uri.Shown(a.JWKSURI), err)
		}
	}
	var given []string
	for _, one := range []struct{ name, value string }{{"secret_file", a.SecretFile}, {"jwks_file", a.JWKSFile}, {"jwks_uri", a.JWKSURI}} {
		if one.value != "" {
			given = append(given, one.name)
		}
	}
	if len(given) > 1 {
		s.bad(given[1], "the application authenticates in one way: leave out %s or %s", given[0], given[1])
	}
	if len(a.RedirectURIs) == 0 && len(given) == 0 {
		d.problem(s.body.MissingItemRange(), "application %q needs redirect_uris, or a way to authenticate: secret_file, jwks_file or jwks_uri", id)
	}
	s.checkRedirectURIs(a, prefixes)
	s.end()
	return a
}

func (s *section) checkRedirectURIs(a SignInApplication, prefixes []string) {
	for _, text := range a.RedirectURIs {
		u, err := uri.ParseRedirect(text)
		switch {
		case err != nil:
			s.bad("redirect_uris", "%s: %v", uri.Shown(text), err)
		case a.Trusted && u.Kind != uri.HTTPS:
			s.bad("trusted", "any program on the computer can take %q, and would be signed in without a question: leave trusted out, or give https redirects alone", text)
		case a.Trusted && slices.Contains(prefixes, text):
			s.bad("trusted", "%q stands for many redirects, and a trusted application is not asked about: leave trusted out, or name each redirect", text)
		}
	}
}

// mount is the path of an auth method's mount, without slashes around it.
func (s *section) mount(name string) string {
	text := strings.Trim(s.str(name, ""), "/")
	s.required(name, text)
	if s.has(name) && !mountForm.MatchString(text) {
		s.bad(name, "%q is not the path of a mount: write the part behind auth/", text)
	}
	return text
}

var mountForm = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$`)

// role is the name of a role of an auth method.
func (s *section) role(name string) string {
	text := s.str(name, "")
	s.required(name, text)
	if s.has(name) && !roleForm.MatchString(text) {
		s.bad(name, "%q is not a valid name of a role", text)
	}
	return text
}

// checkText refuses texts for people with invisible characters.
func (s *section) checkText(name, text string, most int) {
	hidden := func(c rune) bool { return !unicode.IsGraphic(c) }
	if utf8.RuneCountInString(text) > most || strings.TrimSpace(text) != text || strings.ContainsFunc(text, hidden) {
		s.bad(name, "it is not a text for a page: use at most %d characters, no spaces at the ends, and none that cannot be seen", most)
	}
}

// signInWarnings are about a block with which nobody can sign in, or more people than it
// seems.
func (c *Config) signInWarnings() []string {
	if c.SignIn == nil {
		return nil
	}
	var warnings []string
	if s := c.SignIn; len(s.Logins) > 0 && !s.DynamicRegistration && len(s.MetadataDocuments) == 0 && len(s.Applications) == 0 {
		warnings = append(warnings, "sign_in: no application can sign in: name metadata_documents, write a block application, or set dynamic_registration = true")
	}
	if s := c.SignIn; !s.DynamicRegistration && len(s.RedirectHosts) > 0 {
		warnings = append(warnings, "sign_in: redirect_hosts has no effect: it is for applications that register themselves, and dynamic_registration is false")
	}
	return warnings
}
