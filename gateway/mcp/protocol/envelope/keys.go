package envelope

import "bytes"

// maxMembers bounds the members of one guarded object. The protocol's own have
// under ten.
const maxMembers = 64

// keySet holds the keys of one object that were read so far. It is an array and
// not a slice so that it stays on the stack.
type keySet struct {
	keys [maxMembers][]byte
	n    int
}

// add refuses a key that was there before, and one that some parsers take for a
// guarded key though it is written differently.
func (k *keySet) add(key []byte, sc scope) error {
	for _, other := range k.keys[:k.n] {
		if bytes.Equal(key, other) {
			return invalid("%s has a key twice", sc)
		}
	}
	if k.n == maxMembers {
		return invalid("%s has more than %d members", sc, maxMembers)
	}
	k.keys[k.n] = key
	k.n++
	for _, c := range key {
		// Where strings end at a NUL, "name\u0000x" is "name".
		if c < ' ' || c == 0x7f {
			return invalid("%s has a key with a control character", sc)
		}
	}
	if g := resembles(key, sc.guarded()); g != nil {
		return invalid("%s has a key that resembles %q but is not it", sc, g)
	}
	return nil
}

// resembles returns the guarded key that the key would be taken for by a parser
// that ignores case, as Go's encoding/json does (by Unicode's simple folding:
// the Kelvin sign is a k), or that trims white space. A guarded key itself
// resembles none.
func resembles(key []byte, guarded [][]byte) []byte {
	for _, g := range guarded {
		if bytes.Equal(key, g) {
			return nil
		}
	}
	key = bytes.TrimSpace(key)
	for _, g := range guarded {
		if bytes.EqualFold(key, g) {
			return g
		}
	}
	return nil
}
