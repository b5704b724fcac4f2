package grants

import "encoding/binary"

// Principal is the identity that owns what the gateway keeps: sessions, children, cached
// answers, credentials leased from Vault, and its share of every limit. Two principals share
// none of that, nor anything that one could learn about the other from it.
//
// Today the principal is the client. Rotated tokens of one client have the same principal; a
// client that is created again under its name has another one. The zero Principal is nobody.
type Principal struct{ client string }

// PrincipalOf returns the principal of the client with this unchanging id.
func PrincipalOf(clientID string) Principal { return Principal{client: clientID} }

// Principal returns the owner of what the gateway keeps for the token.
func (g *Grant) Principal() Principal { return PrincipalOf(g.ClientID) }

// ClientID returns the unchanging id of the principal's client; "" for nobody.
func (p Principal) ClientID() string { return p.client }

// AppendTo appends all that identifies the principal, so that no two principals look alike.
func (p Principal) AppendTo(dst []byte) []byte {
	for _, part := range [...]string{p.client} {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(part))) //nolint:gosec // names, not gigabytes
		dst = append(dst, part...)
	}
	return dst
}
