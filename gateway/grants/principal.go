package grants

import (
	"encoding/binary"
	"unique"
)

// Principal is the identity that owns what the gateway keeps: sessions, children, cached
// answers, credentials leased from Vault, and its share of every limit. Two principals share
// none of that, nor anything that one could learn about the other from it.
//
// The principal of a client's own tokens is the client. Under sign-in it is the client, the
// person and the application together: colleagues who act as one client are two principals,
// and so are two applications of one person. Rotated tokens of one client have the same
// principal, and so have all tokens of one person with one application. A client that is
// created again under its name has another one. The zero Principal is nobody.
type Principal struct {
	client string
	person unique.Handle[person] // the zero handle: the client alone
}

// person is someone with an application. There may be a hundred thousand principals, most of
// them without one, so each has a handle of it.
type person struct{ entity, application string }

// PrincipalOf returns the principal of the client with this unchanging id, without a person.
func PrincipalOf(clientID string) Principal { return Principal{client: clientID} }

// Principal returns the owner of what the gateway keeps for the token.
func (g *Grant) Principal() Principal {
	if g.SignIn == nil {
		return PrincipalOf(g.ClientID)
	}
	return Principal{client: g.ClientID, person: g.SignIn.who()}
}

// ClientID returns the unchanging id of the principal's client; "" for nobody.
func (p Principal) ClientID() string { return p.client }

// IsPerson reports whether the principal is a person with an application, and not a client
// alone.
func (p Principal) IsPerson() bool { return p.person != unique.Handle[person]{} }

// AppendTo appends all that identifies the principal, so that no two principals look alike:
// one part for a client, and three for a person, each behind its length.
func (p Principal) AppendTo(dst []byte) []byte {
	dst = appendPart(dst, p.client)
	if p.IsPerson() {
		of := p.person.Value()
		dst = appendPart(appendPart(dst, of.entity), of.application)
	}
	return dst
}

func appendPart(dst []byte, part string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(part))) //nolint:gosec // names, not gigabytes
	return append(dst, part...)
}
