package idp

import (
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"

	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// GroupsClaim is the claim with a person's groups. It is in every ID token, regardless of
// the scopes.
const GroupsClaim = "groups"

const groupsScope = "groups"

// Person is somebody who may sign in.
type Person struct {
	// Name is the user name at the login, and the value of the claims sub, name and
	// preferred_username.
	Name     string
	Password string
	// Groups are the claim "groups". Nil means that the claim is missing.
	Groups []string
	// Claims are more claims. One of them overrides a claim of the same name.
	Claims map[string]any
}

// account is a person who is known here.
type account struct {
	Person
	closed bool
}

// Add adds a person, or replaces the one with this name.
func (i *IdP) Add(person Person) error {
	if person.Name == "" || person.Password == "" {
		return fmt.Errorf("the person %q needs a name and a password", person.Name)
	}
	person.Groups, person.Claims = slices.Clone(person.Groups), maps.Clone(person.Claims)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.people[person.Name] = &account{Person: person}
	return nil
}

// Close closes a person's account: no login succeeds, and codes and access tokens that
// were given before are of no use. ID tokens are good until they expire, as everywhere.
func (i *IdP) Close(name string) error {
	return i.change(name, func(a *account) { a.closed = true })
}

// Reopen undoes Close.
func (i *IdP) Reopen(name string) error {
	return i.change(name, func(a *account) { a.closed = false })
}

// SetGroups replaces a person's groups, which count from the next login on.
func (i *IdP) SetGroups(name string, groups ...string) error {
	return i.change(name, func(a *account) { a.Groups = slices.Clone(groups) })
}

func (i *IdP) change(name string, change func(*account)) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	person := i.people[name]
	if person == nil {
		return fmt.Errorf("there is no person %q", name)
	}
	change(person)
	return nil
}

// AllowRedirect adds redirect URIs to those of the client.
func (i *IdP) AllowRedirect(uris ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.redirects = append(i.redirects, uris...)
}

// person is one with an open account.
func (i *IdP) person(name string) (Person, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	person := i.people[name]
	if person == nil || person.closed {
		return Person{}, false
	}
	return person.Person, true
}

// checkPassword returns the reason why a person may not sign in; "" means that they
// may.
func (i *IdP) checkPassword(name, password string) (refusal string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	person := i.people[name]
	switch {
	case person == nil, subtle.ConstantTimeCompare([]byte(person.Password), []byte(password)) != 1:
		return "This name and password do not belong together."
	case person.closed:
		return "This account is closed."
	}
	return ""
}

// shown are the people for the login page, in the order of their names.
func (i *IdP) shown() []Person {
	if !i.options.ShowPasswords {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	var people []Person
	for _, name := range slices.Sorted(maps.Keys(i.people)) {
		people = append(people, i.people[name].Person)
	}
	return people
}

// describe fills in a person's claims.
func (p Person) describe(info *oidc.UserInfo) {
	info.Subject, info.Name, info.PreferredUsername = p.Name, p.Name, p.Name
	info.Email, info.EmailVerified = p.Name+"@example.com", true
	if p.Groups != nil {
		info.AppendClaims(GroupsClaim, p.Groups)
	}
	for name, value := range p.Claims {
		info.AppendClaims(name, value)
	}
}
