// Package seal lets a gateway store its state with the browser or the application, which
// sends it back later: in a cookie, a form, a code, a refresh token, a client_id. It encrypts
// and authenticates the text (AES-256-GCM), so that nobody can read or alter it, and any
// gateway of the mount opens it.
//
// Each sealed text has a purpose. The purpose is part of the key's derivation (HKDF, RFC
// 5869) and of the authenticated data, as is the engine's mount: a text that was sealed for
// one purpose opens for no other one, and at no other mount. Keys come from the session keys
// that gateways share. Those expire, so [Sealer.Seal] is for texts that live for days at
// most. [Sealer.SealLasting] uses the registration key, which does not expire.
//
// Each text has a key of its own, from 192 random bits, so that no number of texts wears out
// a session key.
package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"vault-plugin-secrets-mcp/gateway/grants"
)

// Purpose is the use for which a text is sealed.
type Purpose string

// The purposes. No two kinds of text share one.
const (
	Transaction  Purpose = "transaction"  // a sign-in under way, in a cookie
	Consent      Purpose = "consent"      // the form of the consent page
	Choice       Purpose = "choice"       // the form on which the login is chosen
	Code         Purpose = "code"         // an authorization code
	Refresh      Purpose = "refresh"      // a refresh token
	Registration Purpose = "registration" // the client_id of a dynamic registration
	Secret       Purpose = "secret"       // the client_secret of a dynamic registration
	Task         Purpose = "task"         // the id of a server's task
	Call         Purpose = "call"         // the requestState of a call that waits for its client's answer
)

// Why a text does not open.
var (
	// ErrNotValid: the text was not sealed for this purpose with these bound data and under
	// these keys, or was altered.
	ErrNotValid = errors.New("the sealed text is not valid")

	// ErrNewerKey is an ErrNotValid that may be temporary: the text names a key that the
	// gateway does not have, and another gateway may have already.
	ErrNewerKey = fmt.Errorf("%w: it is sealed under a key that the gateway does not have", ErrNotValid)

	// ErrNoKeys: Vault has not given the gateway the keys yet.
	ErrNoKeys = errors.New("the gateway does not have the keys to seal with yet")
)

// maxSealed is the length of the longest text that is opened.
const maxSealed = 64 << 10

// Layout of a sealed text, before base64: format, key, salt, ciphertext, tag. The key is a
// version of the session keys, or the fingerprint of a registration key.
const (
	formatExpiring = 1
	formatLasting  = 2

	keySize    = 4
	saltSize   = 24
	nonceSize  = 12 // of the salt's end
	prefixSize = 1 + keySize
	headerSize = prefixSize + saltSize
	tagSize    = 16
	overhead   = headerSize + tagSize
)

// Strict, so that each sealed text has one spelling.
var encoding = base64.RawURLEncoding.Strict()

// Sealer seals and opens texts. Any goroutine may use it.
type Sealer struct {
	source func() *grants.SessionKeys
}

// New returns a sealer that takes its keys from source, which returns nil while there are
// none.
func New(source func() *grants.SessionKeys) *Sealer { return &Sealer{source: source} }

// Seal seals a text under the current session key. It opens with the same bound data alone.
func (s *Sealer) Seal(purpose Purpose, bound, plain []byte) (string, error) {
	keys := s.source()
	if keys == nil {
		return "", ErrNoKeys
	}
	key, ok := keys.Keys[keys.Current]
	if !ok || !isVersion(keys.Current) {
		return "", fmt.Errorf("%w: there is none of the current version %d", ErrNoKeys, keys.Current)
	}
	var header [headerSize]byte
	header[0] = formatExpiring
	binary.BigEndian.PutUint32(header[1:], uint32(keys.Current)) //nolint:gosec // isVersion
	if _, err := rand.Read(header[prefixSize:]); err != nil {
		return "", err
	}
	return sealed(key[:], header, purpose, keys.MountID, bound, plain)
}

// WithNewerKey opens a text, and once more after a refresh of the keys where the text names a
// newer one than the gateway has: another gateway may have got a new key first. A nil refresh
// is skipped.
func WithNewerKey(ctx context.Context, refresh func(context.Context) error, open func() ([]byte, error)) ([]byte, error) {
	plain, err := open()
	if !errors.Is(err, ErrNewerKey) || refresh == nil {
		return plain, err
	}
	if err := refresh(ctx); err != nil {
		return nil, err
	}
	return open()
}

// Open returns the text, or [ErrNotValid], which may be [ErrNewerKey], or [ErrNoKeys].
func (s *Sealer) Open(purpose Purpose, bound []byte, text string) ([]byte, error) {
	keys := s.source()
	if keys == nil {
		return nil, ErrNoKeys
	}
	raw, err := decode(formatExpiring, text)
	if err != nil {
		return nil, err
	}
	version := int(binary.BigEndian.Uint32(raw[1:]))
	key, ok := keys.Keys[version]
	switch {
	case !ok && version > keys.Current:
		return nil, ErrNewerKey
	case !ok:
		return nil, ErrNotValid
	}
	return opened(key[:], raw, purpose, keys.MountID, bound)
}

func isVersion(version int) bool { return version >= 0 && uint64(version) < 1<<32 }

// decode returns the bytes of a sealed text of that format.
func decode(format byte, text string) ([]byte, error) {
	if len(text) > maxSealed {
		return nil, ErrNotValid
	}
	raw, err := encoding.DecodeString(text)
	if err != nil || len(raw) < overhead || raw[0] != format {
		return nil, ErrNotValid
	}
	if encoding.EncodedLen(len(raw)) != len(text) {
		return nil, ErrNotValid // the decoder ignores line breaks
	}
	return raw, nil
}

func sealed(secret []byte, header [headerSize]byte, purpose Purpose, mount string, bound, plain []byte) (string, error) {
	aead, err := cipherOf(secret, header[prefixSize:], purpose)
	if err != nil {
		return "", err
	}
	raw := make([]byte, headerSize, overhead+len(plain))
	copy(raw, header[:])
	raw = aead.Seal(raw, nonceOf(header[:]), plain, associated(header[:], purpose, mount, bound))
	return encoding.EncodeToString(raw), nil
}

func opened(secret, raw []byte, purpose Purpose, mount string, bound []byte) ([]byte, error) {
	aead, err := cipherOf(secret, raw[prefixSize:headerSize], purpose)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nonceOf(raw), raw[headerSize:], associated(raw[:headerSize], purpose, mount, bound))
	if err != nil {
		return nil, ErrNotValid
	}
	return plain, nil
}

// nonceOf is the nonce of a text: a part of its salt, since no two texts have the same key.
func nonceOf(header []byte) []byte { return header[headerSize-nonceSize : headerSize] }

// cipherOf returns the cipher of one text. Session ids are sealed under the session keys
// themselves, which the derivation keeps apart from every key of this package.
func cipherOf(secret, salt []byte, purpose Purpose) (cipher.AEAD, error) {
	key, err := derive(secret, salt, "text", purpose)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func derive(secret, salt []byte, use string, purpose Purpose) ([]byte, error) {
	return hkdf.Key(sha256.New, secret, salt, "mcp gateway seal 1\x00"+use+"\x00"+string(purpose), 32)
}

// associated is the data that a text is bound to. The length comes before each part, so that no two
// sets of parts look alike.
func associated(header []byte, purpose Purpose, mount string, bound []byte) []byte {
	dst := make([]byte, 0, len(header)+len(purpose)+len(mount)+len(bound)+4*4)
	for _, part := range [][]byte{header, []byte(purpose), []byte(mount), bound} {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(part))) //nolint:gosec // bounded by maxSealed and by Vault's answer
		dst = append(dst, part...)
	}
	return dst
}
