package broker

// SessionKeySize is the size of a session key in bytes: AES-256.
const SessionKeySize = 32

// SessionKeys are the keys under which the gateways of one mount seal session
// ids. All gateways of a mount hold the same ones, so any of them can open what
// another sealed. A snapshot is immutable.
type SessionKeys struct {
	// Current is the version to seal with. Keys always holds it.
	Current int

	// Keys maps each version that still opens sessions to its key.
	Keys map[int][SessionKeySize]byte

	// MountID identifies the engine's mount: part of the associated data, so
	// that a session of one mount means nothing at another.
	MountID string
}

// String keeps the keys out of logs.
func (*SessionKeys) String() string { return "<session keys>" }

// GoString does the same for %#v.
func (k *SessionKeys) GoString() string { return k.String() }
