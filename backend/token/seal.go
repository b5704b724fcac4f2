package token

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A sealed token is a token encrypted under a data key:
//
//	mcpk_ + base64url( version | id of the data key | nonce | ciphertext and tag )
//
// in bytes 1, 8, 12, and those of the token and 16 more. The cipher is
// AES-256-GCM. Its associated data is the version, the data key's id, the mount
// and the audience, so a sealed token means nothing at another mount, to another
// audience, or under another key's id. An issued token, sealed, always has 127
// characters.
const (
	sealVersion = 1
	keyIDSize   = 8
	nonceSize   = 12
	tagSize     = 16
	sealHeader  = 1 + keyIDSize + nonceSize

	// KeyIDLength is the length of a data key's id, in hexadecimal digits.
	KeyIDLength = 2 * keyIDSize

	// MaxSealable is the length of the longest token that can be sealed: sealed,
	// it has at most MaxLength characters.
	MaxSealable = (MaxLength-len(SealedPrefix))*3/4 - sealHeader - tagSize

	sealingKeySize = 32
)

var (
	// ErrSealedForm is why something cannot be a sealed token of any mount.
	ErrSealedForm = errors.New("the token starts with " + SealedPrefix + " but is not a valid sealed token: it was cut or altered")

	// ErrUnsealable is why something is not a sealed token of this key.
	ErrUnsealable = errors.New("the token was not sealed under this data key for this mount and audience, or was altered since")
)

// sealedEncoding is strict, so that no two texts are the same sealed token.
var sealedEncoding = base64.RawURLEncoding.Strict()

// SealingKey seals tokens under one data key, for one mount and audience, and
// opens them. It is safe for concurrent use.
type SealingKey struct {
	id         [keyIDSize]byte
	aead       cipher.AEAD
	associated []byte
}

// NewSealingKey takes the data key itself, 256 bits, and its id. It keeps no
// reference to the key's bytes, which the caller should clear.
func NewSealingKey(id string, key []byte, mount, audience string) (*SealingKey, error) {
	k := &SealingKey{}
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != keyIDSize || hex.EncodeToString(raw) != id {
		return nil, fmt.Errorf("a data key's id is %d lower-case hexadecimal digits, and %q is not", KeyIDLength, id)
	}
	if len(key) != sealingKeySize {
		return nil, fmt.Errorf("data key %s has %d bytes instead of %d", id, len(key), sealingKeySize)
	}
	copy(k.id[:], raw)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	k.associated = append([]byte{sealVersion}, raw...)
	for _, text := range []string{mount, audience} {
		k.associated = binary.AppendVarint(k.associated, int64(len(text)))
		k.associated = append(k.associated, text...)
	}
	return k, nil
}

// NewKeyID returns an id for a new data key. Ids are random, so that a data key
// made after a restore from a snapshot is never taken for one made before.
func NewKeyID(random io.Reader) (string, error) {
	var id [keyIDSize]byte
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return "", fmt.Errorf("read random bytes: %w", err)
	}
	return hex.EncodeToString(id[:]), nil
}

// ID returns the data key's id.
func (k *SealingKey) ID() string { return hex.EncodeToString(k.id[:]) }

// String keeps the key out of logs.
func (k *SealingKey) String() string { return "<sealing key " + k.ID() + ">" }

// GoString does the same for %#v.
func (k *SealingKey) GoString() string { return k.String() }

// Seal returns the token in its sealed form. The error is random's, or says that
// the token is too long.
func (k *SealingKey) Seal(random io.Reader, tok string) (string, error) {
	if len(tok) > MaxSealable {
		return "", fmt.Errorf("a token of more than %d characters cannot be sealed", MaxSealable)
	}
	raw := make([]byte, sealHeader, sealHeader+len(tok)+tagSize)
	raw[0] = sealVersion
	copy(raw[1:], k.id[:])
	nonce := raw[1+keyIDSize : sealHeader]
	if _, err := io.ReadFull(random, nonce); err != nil {
		return "", fmt.Errorf("read random bytes: %w", err)
	}
	return SealedPrefix + sealedEncoding.EncodeToString(k.aead.Seal(raw, nonce, []byte(tok), k.associated)), nil
}

// Open returns the token in a sealed one. The error is ErrSealedForm or
// ErrUnsealable.
func (k *SealingKey) Open(sealed string) (string, error) {
	raw, err := decodeSealed(sealed)
	if err != nil {
		return "", err
	}
	if [keyIDSize]byte(raw[1:]) != k.id {
		return "", ErrUnsealable
	}
	tok, err := k.aead.Open(nil, raw[1+keyIDSize:sealHeader], raw[sealHeader:], k.associated)
	if err != nil || IsSealed(string(tok)) {
		return "", ErrUnsealable
	}
	return string(tok), nil
}

// IsSealed reports whether s has the prefix of sealed tokens.
func IsSealed(s string) bool { return strings.HasPrefix(s, SealedPrefix) }

// SealedUnder returns the id of the data key that a sealed token names. It is not
// authenticated: only Open reports whether it is true. The error is ErrSealedForm.
func SealedUnder(sealed string) (keyID string, err error) {
	raw, err := decodeSealed(sealed)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(raw[1 : 1+keyIDSize]), nil
}

func decodeSealed(sealed string) ([]byte, error) {
	body, ok := strings.CutPrefix(sealed, SealedPrefix)
	// The decoder would skip line breaks.
	if !ok || len(sealed) > MaxLength || strings.ContainsAny(body, "\r\n") {
		return nil, ErrSealedForm
	}
	raw, err := sealedEncoding.DecodeString(body)
	if err != nil || len(raw) < sealHeader+MinCustomLength+tagSize || raw[0] != sealVersion {
		return nil, ErrSealedForm
	}
	return raw, nil
}
