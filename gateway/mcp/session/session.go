// Package session seals the session ids of upstream servers, so that the gateway need
// not remember their owners.
//
// A session id is a bearer secret: anybody who sends it acts in that session. So a
// client does not get the upstream's id. It gets that id encrypted and authenticated
// (AES-256-GCM) together with its owner: the principal, the server's registration and the
// engine's mount. Any gateway of the mount opens it for the same principal at the same
// server only; a stolen one is worthless with another client's token. The owner is the
// client's unchanging id and not its token. So a rotated token keeps its sessions, and a
// client created again under the same name does not inherit any.
package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"vault-plugin-secrets-mcp/gateway/grants"
)

// MaxID is the length of the longest upstream session id, in bytes. Those that we have
// seen have 32 to 200.
const MaxID = 1024

// Layout of a sealed id, before base64: format, key version, nonce, ciphertext,
// tag.
const (
	format      = 1
	versionSize = 4
	nonceSize   = 12
	tagSize     = 16
	headerSize  = 1 + versionSize + nonceSize
	overhead    = headerSize + tagSize
)

// MaxSealed is the length of the longest sealed id. Open does not decode longer ones.
var MaxSealed = encoding.EncodedLen(MaxID + overhead)

// Strict, so that each sealed id has one spelling.
var encoding = base64.RawURLEncoding.Strict()

// Why an id is not sealed or opened.
var (
	// ErrUnknown: this id does not open for this owner, for any reason. The answer
	// is 404, and clients then start a new session.
	ErrUnknown = errors.New("no such session")

	// ErrNewerKey is an ErrUnknown that may be temporary: the id names a newer key
	// than the gateway has.
	ErrNewerKey = fmt.Errorf("%w: its key is newer than the gateway's keys", ErrUnknown)

	// ErrUpstreamID: the upstream's id is empty, too long, or has characters that
	// the protocol does not allow.
	ErrUpstreamID = errors.New("the upstream's session id breaks the protocol")

	// ErrNoKeys: Vault has not given the gateway any keys yet.
	ErrNoKeys = errors.New("the gateway does not have the keys for session ids yet")
)

// Owner may use a session.
type Owner struct {
	Principal grants.Principal
	ServerID  string // id of the server's registration
}

// Sealer seals and opens session ids. Any goroutine may use it.
type Sealer struct {
	source func() *grants.SessionKeys
	ring   atomic.Pointer[ring]
}

// NewSealer returns a sealer that takes its keys from source. It takes them again when
// source returns another snapshot.
func NewSealer(source func() *grants.SessionKeys) *Sealer {
	return &Sealer{source: source}
}

// Seal seals the upstream's id for the owner.
func (s *Sealer) Seal(owner Owner, id string) (string, error) {
	if !valid(id) {
		return "", ErrUpstreamID
	}
	keys, err := s.keys()
	if err != nil {
		return "", err
	}
	buffer := make([]byte, headerSize, overhead+len(id))
	buffer[0] = format
	binary.BigEndian.PutUint32(buffer[1:], uint32(keys.current)) //nolint:gosec // checked in newRing
	nonce := buffer[1+versionSize : headerSize]
	if _, err := rand.Read(nonce); err != nil {
		return "", err
	}
	var scratch [256]byte
	bound := keys.bind(scratch[:0], buffer[:1+versionSize], owner)
	sealed := keys.aeads[keys.current].Seal(buffer, nonce, []byte(id), bound)
	return encoding.EncodeToString(sealed), nil
}

// Open returns the upstream's id if the sealed one is this owner's, and
// otherwise [ErrUnknown], which may be [ErrNewerKey], or [ErrNoKeys].
func (s *Sealer) Open(owner Owner, sealed string) (string, error) {
	if len(sealed) > MaxSealed {
		return "", ErrUnknown
	}
	keys, err := s.keys()
	if err != nil {
		return "", err
	}
	raw, err := encoding.DecodeString(sealed)
	if err != nil || len(raw) <= overhead || raw[0] != format {
		return "", ErrUnknown
	}
	if encoding.EncodedLen(len(raw)) != len(sealed) {
		return "", ErrUnknown // the decoder ignores line breaks
	}
	version := int(binary.BigEndian.Uint32(raw[1:]))
	aead := keys.aeads[version]
	switch {
	case aead == nil && version > keys.current:
		return "", ErrNewerKey
	case aead == nil:
		return "", ErrUnknown
	}
	var scratch [256]byte
	bound := keys.bind(scratch[:0], raw[:1+versionSize], owner)
	id, err := aead.Open(raw[headerSize:headerSize], raw[1+versionSize:headerSize], raw[headerSize:], bound)
	if err != nil || !valid(string(id)) {
		return "", ErrUnknown
	}
	return string(id), nil
}

// keys returns the ciphers of the current snapshot of keys.
func (s *Sealer) keys() (*ring, error) {
	source := s.source()
	if source == nil {
		return nil, ErrNoKeys
	}
	if r := s.ring.Load(); r != nil && r.source == source {
		return r, nil
	}
	r, err := newRing(source)
	if err != nil {
		return nil, err
	}
	s.ring.Store(r)
	return r, nil
}

// ring holds one cipher for each version of the keys.
type ring struct {
	source  *grants.SessionKeys
	mount   string
	current int
	aeads   map[int]cipher.AEAD
}

func newRing(source *grants.SessionKeys) (*ring, error) {
	r := &ring{
		source:  source,
		mount:   source.MountID,
		current: source.Current,
		aeads:   make(map[int]cipher.AEAD, len(source.Keys)),
	}
	for version, key := range source.Keys {
		if version < 0 || uint64(version) > 1<<32-1 {
			return nil, fmt.Errorf("session keys: version %d is out of range", version)
		}
		block, err := aes.NewCipher(key[:])
		if err != nil {
			return nil, fmt.Errorf("session keys: version %d: %w", version, err)
		}
		if r.aeads[version], err = cipher.NewGCM(block); err != nil {
			return nil, fmt.Errorf("session keys: version %d: %w", version, err)
		}
	}
	if r.aeads[r.current] == nil {
		return nil, fmt.Errorf("session keys: there is no key of the current version %d", r.current)
	}
	return r, nil
}

// bind appends the data that a sealed id is bound to: its own header, the mount and the
// owner. The length comes before each part, so that no two owners look alike.
func (r *ring) bind(dst, header []byte, owner Owner) []byte {
	dst = append(dst, "mcp session id"...)
	dst = append(dst, header...)
	dst = appendPart(dst, r.mount)
	dst = owner.Principal.AppendTo(dst)
	return appendPart(dst, owner.ServerID)
}

func appendPart(dst []byte, part string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(part))) //nolint:gosec // names, not gigabytes
	return append(dst, part...)
}

// valid reports whether the protocol allows such a session id: visible ASCII.
func valid(id string) bool {
	if id == "" || len(id) > MaxID {
		return false
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}
