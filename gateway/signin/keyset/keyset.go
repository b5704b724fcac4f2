// Package keyset reads the public keys with which applications sign their assertions: JWK
// sets (RFC 7517 §5). It accepts keys of four algorithms only, and refuses private and
// symmetric ones: such a key is no longer secret once it is published.
//
// Nothing here does I/O.
package keyset

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Algorithms are those that assertions may be signed with. None of them is symmetric: a
// public key could be taken for its secret.
func Algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.PS256, jose.EdDSA}
}

const (
	maxKeys    = 20
	minRSABits = 2048
)

// Set is a set of public keys.
type Set struct{ keys []jose.JSONWebKey }

// Parse reads a set. Keys of other kinds are left out, as RFC 7517 §5 wants it; a set in which
// no key is left, or one is private, is an error.
func Parse(text []byte) (*Set, error) {
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, errors.New("it is not a JWK set: write it as {\"keys\": [ … ]}")
	}
	if len(raw.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys: at most %d are allowed", len(raw.Keys), maxKeys)
	}
	set := &Set{}
	for i, one := range raw.Keys {
		private, err := isPrivate(one)
		if err != nil {
			return nil, fmt.Errorf("key %d is not a JWK", i+1)
		}
		if private {
			return nil, fmt.Errorf("key %d is private or symmetric: publish public keys alone, and replace this one", i+1)
		}
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(one); err != nil || len(algorithmsOf(&key)) == 0 {
			continue
		}
		key.Certificates = nil
		set.keys = append(set.keys, key)
	}
	if len(set.keys) == 0 {
		return nil, fmt.Errorf("it has no key for ES256 (P-256), RS256 or PS256 (RSA of %d bits or more) or EdDSA (Ed25519)", minRSABits)
	}
	return set, nil
}

// isPrivate reports whether a key has a member that only its owner may know (RFC 7518 §6).
func isPrivate(key json.RawMessage) (bool, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(key, &members); err != nil || members == nil {
		return false, errors.New("not an object")
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
		if _, ok := members[name]; ok {
			return true, nil
		}
	}
	return false, nil
}

// algorithmsOf are those that a key may be used for.
func algorithmsOf(key *jose.JSONWebKey) []jose.SignatureAlgorithm {
	if !key.Valid() || key.Use != "" && key.Use != "sig" {
		return nil
	}
	var all []jose.SignatureAlgorithm
	switch public := key.Key.(type) {
	case *ecdsa.PublicKey:
		if public.Curve == elliptic.P256() {
			all = []jose.SignatureAlgorithm{jose.ES256}
		}
	case *rsa.PublicKey:
		if public.N.BitLen() >= minRSABits {
			all = []jose.SignatureAlgorithm{jose.RS256, jose.PS256}
		}
	case ed25519.PublicKey:
		all = []jose.SignatureAlgorithm{jose.EdDSA}
	}
	if key.Algorithm == "" {
		return all
	}
	for _, one := range all {
		if string(one) == key.Algorithm {
			return []jose.SignatureAlgorithm{one}
		}
	}
	return nil
}

// Candidates are the keys that may have made a signature: of the named id, or any where none
// is named, and for the algorithm.
func (s *Set) Candidates(algorithm jose.SignatureAlgorithm, id string) []jose.JSONWebKey {
	var found []jose.JSONWebKey
	for _, key := range s.keys {
		if id != "" && key.KeyID != id {
			continue
		}
		for _, one := range algorithmsOf(&key) {
			if one == algorithm {
				found = append(found, key)
			}
		}
	}
	return found
}
