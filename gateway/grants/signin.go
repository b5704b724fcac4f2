package grants

import (
	"errors"
	"unique"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// SignIn says for whom a token was leased in a sign-in, and for what it is good. All of it is
// Vault's word: no request names a person.
type SignIn struct {
	Resource    string // the only one that the token is for (RFC 8707), as the engine keeps it
	Application string // the application's id
	Login       string // the name of the login
	Person      string // the name of the person's alias at the login's mount
	EntityID    string // of the person, in Vault
	Accessor    string // of the person's Vault token: it names the sign-in

	person unique.Handle[person] // made once: see who
}

// who is the person with the application.
func (s *SignIn) who() unique.Handle[person] {
	if s.person != (unique.Handle[person]{}) {
		return s.person
	}
	return unique.Make(person{entity: s.EntityID, application: s.Application})
}

// samePerson reports whether both are of one person by the same name. A person may have another
// name at another login.
func (s *SignIn) samePerson(o *SignIn) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.EntityID == o.EntityID && s.Login == o.Login && s.Person == o.Person
}

// errSignIn: the gateway does not guess for whom a token is.
var errSignIn = errors.New("lookup: an answer with a part of a sign-in only: it needs resource, application, login, person, entity_id and sign_in")

// signInParts is the number of fields that say something of a sign-in. An answer has all of
// them, or none.
const signInParts = 6

func partsOf(l *vaultclient.Lookup) [signInParts]string {
	return [...]string{l.Resource, l.Application, l.Login, l.Person, l.EntityID, l.SignIn}
}

// signInOf reads it from an active answer; nil for a token of no sign-in.
func signInOf(l *vaultclient.Lookup) (*SignIn, error) {
	given := 0
	for _, part := range partsOf(l) {
		if part != "" {
			given++
		}
	}
	switch given {
	case 0:
		return nil, nil //nolint:nilnil // most tokens belong to no sign-in
	case signInParts:
		s := &SignIn{
			Resource: intern(l.Resource), Application: intern(l.Application), Login: intern(l.Login),
			Person: intern(l.Person), EntityID: intern(l.EntityID), Accessor: intern(l.SignIn),
		}
		s.person = s.who()
		return s, nil
	}
	return nil, errSignIn
}
