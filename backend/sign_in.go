package backend

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

const (
	// signInTokenTTL is the longest life of a token with a resource. Vault does not tell the
	// engine that an entity was disabled or has lost a policy, so such a person loses access
	// when the token ends.
	signInTokenTTL = 15 * time.Minute

	// longestSignIn bounds the time until the end of a sign-in.
	longestSignIn = 31 * 24 * time.Hour
)

// signInInfo is the sign-in that has got a token. It is stored with the token and never
// changed.
type signInInfo struct {
	Resource    string `json:"resource"`    // the only one that the token is for
	Application string `json:"application"` // the application's id
	Login       string `json:"login"`       // a name of sign_in_logins
	Person      string `json:"person"`      // the name of the entity's alias at the login
	EntityID    string `json:"entity_id"`
	Accessor    string `json:"accessor"` // of the person's Vault token: it names the sign-in

	// Generation is the client's SignInGeneration at the time of issue.
	Generation uint64 `json:"generation,omitempty"`
}

// signInFields are the schemas of the fields that addTo adds.
func signInFields() fields {
	return fields{
		"resource":    {Type: framework.TypeString, Description: "The resource that the token is for, and no other (RFC 8707); empty for a token that no sign-in has got, as are the next five."},
		"application": {Type: framework.TypeString, Description: "Id of the application with which the person has signed in."},
		"person":      {Type: framework.TypeString, Description: "Who has signed in: the name of their alias at the login."},
		"login":       {Type: framework.TypeString, Description: "The login, a name of sign_in_logins (config)."},
		"entity_id":   {Type: framework.TypeString, Description: "Id of the person's Vault entity."},
		"sign_in":     {Type: framework.TypeString, Description: "Names the sign-in: the accessor of the person's Vault token."},
	}
}

// addTo adds the fields of a token's sign-in to an answer; i is nil for a token without one.
func (i *signInInfo) addTo(data map[string]any) {
	if i == nil {
		i = &signInInfo{}
	}
	data["resource"], data["application"] = i.Resource, i.Application
	data["person"], data["login"], data["entity_id"] = i.Person, i.Login, i.EntityID
	data["sign_in"] = i.Accessor
}

// signInRequest is the part of a request for a token that is about a sign-in.
type signInRequest struct {
	info            signInInfo
	applicationName string
	ends            time.Time // zero: not given
	assertion       *assertion
}

// signInRequestFields are the fields of creds/ for sign-ins. None has Query, for a query is in
// Vault's audit log in clear.
func signInRequestFields() fields {
	return fields{
		"resource":          {Type: framework.TypeString, Description: "The resource that the token is for, and no other: an https URL, or one of this machine, without a slash at its end. For clients with sign_in=true, together with application and login."},
		"application":       {Type: framework.TypeString, Description: "Id of the application with which the person signs in."},
		"application_name":  {Type: framework.TypeString, Description: "The application's name, for sign-ins/."},
		"login":             {Type: framework.TypeString, Description: "The login at which the person has got the Vault token that asks: a name of sign_in_logins (config). The person is the alias of that token's entity there."},
		"sign_in_ends":      {Type: framework.TypeTime, Description: "When the sign-in ends at the latest, at most 31 days ahead (RFC 3339, or seconds since 1970). Until then sign-ins/ lists it. Default: when the token expires."},
		"assertion_id":      {Type: framework.TypeString, Description: "The id (jti) of an assertion that may be used once at this login. A second use is refused."},
		"assertion_expires": {Type: framework.TypeTime, Description: "When that assertion expires, at most 24 hours ahead (RFC 3339, or seconds since 1970)."},
	}
}

// signInRequest reads the request's fields about a sign-in as the client; nil if it has
// none. The person is not among them: Vault names the person.
func (b *mcpBackend) signInRequest(ctx context.Context, req *logical.Request, d *framework.FieldData, name string, c *clientEntry) (*signInRequest, error) {
	given := false
	for field := range signInRequestFields() {
		_, has := d.Raw[field]
		given = given || has
	}
	if !given {
		return nil, nil
	}
	asked, err := b.checkSignIn(d)
	if err != nil {
		return nil, err
	}
	if !c.SignIn {
		return nil, userErrorf("field resource: nobody may sign in as the client %q: write clients/%s with sign_in=true first", name, name)
	}
	if ofBatchToken(req) {
		return nil, userErrorf("a batch token asks, and a sign-in needs a service token, whose accessor names it and whose end ends it: set token_type=service on the role of the login")
	}
	conf, err := b.config(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	mount, known := conf.SignInLogins[asked.info.Login]
	if !known {
		return nil, userErrorf("field login: no login %q is known: write config with sign_in_logins=%s=ACCESSOR, the accessor of its auth mount", asked.info.Login, asked.info.Login)
	}
	asked.info.EntityID, asked.info.Person, err = b.person(req, asked.info.Login, mount)
	if err != nil {
		return nil, err
	}
	asked.info.Accessor, asked.info.Generation = req.ClientTokenAccessor, c.SignInGeneration
	return asked, nil
}

// later turns an error of a seal into an error of the server. A gateway takes a 400 as the
// decision that the person may have no token as this client, and ends the sign-in. An error of
// a seal is no such decision.
func (r *signInRequest) later(err error) error {
	var mistake userError
	if r == nil || !errors.As(err, &mistake) {
		return err
	}
	return logical.CodedError(http.StatusServiceUnavailable, mistake.Error())
}

// checkSignIn refuses fields of a sign-in that are wrong in themselves.
func (b *mcpBackend) checkSignIn(d *framework.FieldData) (*signInRequest, error) {
	text := func(field string) string { return d.Get(field).(string) }
	asked := &signInRequest{info: signInInfo{
		Resource: text("resource"), Application: text("application"), Login: text("login"),
	}}
	for _, f := range []struct {
		name, value string
		check       func(string) error
	}{
		{"resource", asked.info.Resource, check.Resource},
		{"application", asked.info.Application, check.Application},
		{"login", asked.info.Login, check.LoginName},
	} {
		if f.value == "" {
			return nil, userErrorf("field %s is missing: a token of a sign-in has resource, application and login, and other tokens have none of a sign-in's fields", f.name)
		}
		if err := f.check(f.value); err != nil {
			return nil, userErrorf("field %s: %s", f.name, err)
		}
	}
	var err error
	if asked.applicationName, err = check.ApplicationName(text("application_name")); err != nil {
		return nil, userErrorf("field application_name: %s", err)
	}
	if asked.ends, err = b.timeAhead(d, "sign_in_ends", longestSignIn); err != nil {
		return nil, err
	}
	asked.assertion, err = b.assertionOf(d, asked.info.Login)
	return asked, err
}

// timeAhead reads a field that has a time, the zero time if it is not given. A time that is
// further ahead than the bound is a mistake in its unit.
func (b *mcpBackend) timeAhead(d *framework.FieldData, field string, most time.Duration) (time.Time, error) {
	raw, given := d.Raw[field]
	if !given {
		return time.Time{}, nil
	}
	at, err := check.Time(raw)
	if err != nil {
		return time.Time{}, userErrorf("field %s: %s", field, err)
	}
	if at.Sub(b.now()) > most {
		return time.Time{}, userErrorf("field %s: %s is more than %d hours ahead, which is the most", field, formatTime(at), most/time.Hour)
	}
	return at, nil
}

// person returns the person who makes the request: the entity of its Vault token, and the name
// of the one alias that the entity has at the login's mount. Nothing else in the request
// counts, and nothing that a person may choose: not the display name, not the name or the
// metadata of the entity, and not an alias at another mount.
func (b *mcpBackend) person(req *logical.Request, login, mount string) (entityID, name string, err error) {
	if req.EntityID == "" {
		return "", "", userErrorf("the Vault token that asks has no entity, so nobody has signed in with it: log in at the login %q", login)
	}
	entity, err := b.System().EntityInfo(req.EntityID)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("ask Vault who signs in: %w", err)
	case entity == nil || entity.ID == "":
		return "", "", userErrorf("the entity of the Vault token that asks does not exist any more: log in again at the login %q", login)
	case entity.Disabled:
		return "", "", userErrorf("the entity of the Vault token that asks is disabled")
	}
	var names []string
	for _, alias := range entity.Aliases {
		if alias.MountAccessor == mount {
			names = append(names, alias.Name)
		}
	}
	switch {
	case len(names) == 0:
		return "", "", userErrorf("the entity of the Vault token that asks has no alias at the login %q: log in there, or correct its accessor in sign_in_logins (config)", login)
	case len(names) > 1:
		return "", "", userErrorf("the entity of the Vault token that asks has %d aliases at the login %q, so nobody can say who signs in: remove all but one", len(names), login)
	}
	if err := check.PersonName(names[0]); err != nil {
		return "", "", userErrorf("the name of the entity's alias at the login %q is not a person's: %s", login, err)
	}
	return entity.ID, names[0], nil
}
