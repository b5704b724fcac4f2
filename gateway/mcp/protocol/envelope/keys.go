package envelope

import (
	"bytes"
)

// maxMembers bounds the members of one guarded object. Those of the protocol have fewer
// than ten.
const maxMembers = 64

// keySet has the keys of one object so far. It is an array and not a slice, so that it
// stays on the stack.
type keySet struct {
	keys [maxMembers][]byte
	n    int
}

// add refuses a key that occurred before: in a client's message no key may occur twice,
// guarded or not.
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
	return nil
}
