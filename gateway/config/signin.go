package config

import (
	"slices"
	"strings"
	"time"
)

// SignIn lets people and machines get tokens with OAuth 2.1, by logins of Vault.
type SignIn struct {
	// Origin is listener's public_url as web origins are written, without a slash at its end.
	// The block is refused without it: every URL of sign-in begins with it.
	Origin string
	// SessionMax, session_max, is the longest time that a sign-in lasts, even if Vault would
	// renew it. Default: 12h.
	SessionMax time.Duration
	// PersonPolicies, person_policies, are the Vault policies that a person's token may have:
	// names, or the beginning of names before a "*". A token with any other ends the sign-in.
	// Default: "default" and "mcp-person*".
	PersonPolicies []string
	// DynamicRegistration, dynamic_registration, lets applications register themselves (RFC
	// 7591). Default: false.
	DynamicRegistration bool
	// RedirectHosts, redirect_hosts, are the https hosts, with a port if it is not 443, to
	// which applications that have registered themselves may redirect, besides the loopback.
	// Default: none.
	RedirectHosts []string
	// RedirectSchemes, redirect_schemes, are private schemes to which applications may
	// redirect that have registered themselves, or have a metadata document. Default: none.
	RedirectSchemes []string
	// RedirectPrefixes, redirect_prefixes, are https URLs with a path that ends with a slash:
	// applications that have registered themselves may redirect to every URL below one. So may
	// an application of the file that has one of them among its redirects. Default: none.
	RedirectPrefixes []string
	// MetadataDocuments, metadata_documents, are the https URLs of metadata documents by
	// which applications may be known; one that ends with a slash stands for all below it.
	// Default: none.
	MetadataDocuments []string

	Logins       []SignInLogin       // login "name" { }
	Machines     []SignInMachine     // machine "name" { }
	Applications []SignInApplication // application "id" { }
}

// AcceptsPolicy reports whether a person's token may have the Vault policy.
func (s *SignIn) AcceptsPolicy(policy string) bool {
	return slices.ContainsFunc(s.PersonPolicies, func(entry string) bool {
		prefix, isPrefix := strings.CutSuffix(entry, "*")
		return entry == policy || isPrefix && strings.HasPrefix(policy, prefix)
	})
}

// SignInLogin is a way in which people log in.
type SignInLogin struct {
	Name string
	// Mount, mount, required: where Vault's oidc auth method is mounted.
	Mount string
	// Role, role, required: the role there.
	Role string
	// Title, title, is the text by which people choose it. Default: its name.
	Title string
}

// Profiles of machines.
const (
	ProfilePlain = ""       // an assertion as RFC 7523 has it
	ProfileIDJAG = "id-jag" // an Identity Assertion Authorization Grant of an enterprise's IdP
)

// SignInMachine is a way in which machines log in, with an assertion (RFC 7523).
type SignInMachine struct {
	Name string
	// Method, method: AuthJWT or AuthKubernetes. Default: jwt.
	Method string
	// Mount, mount, required: where the method is mounted.
	Mount string
	// Role, role, required: the role there.
	Role string
	// Issuer, issuer, required: the iss of its assertions, letter by letter.
	Issuer string
	// SingleUse, single_use: an assertion counts once. Default: false.
	SingleUse bool
	// Profile, profile: one of the Profile constants. Default: "".
	Profile string
}

// DynamicPrefix begins the client_id of every dynamic registration, and of no application in
// the file.
const DynamicPrefix = "dynamic."

// SignInApplication is an application that an administrator has registered.
type SignInApplication struct {
	// ID is its client_id.
	ID string
	// Name, name, is the one that people see. Default: its id.
	Name string
	// RedirectURIs, redirect_uris: https, http to the loopback, or a private scheme. Default:
	// none, which is enough for a machine.
	RedirectURIs []string
	// SecretFile, secret_file, has its client_secret. At most one of it, jwks_file and
	// jwks_uri; without any, the application is public.
	SecretFile string
	// JWKSFile, jwks_file, has the public keys with which it signs assertions.
	JWKSFile string
	// JWKSURI, jwks_uri, is the https URL of these keys.
	JWKSURI string
	// Trusted, trusted: people sign in without the consent page where they have one identity
	// alone. Default: false.
	Trusted bool
}
