package kms

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// States of a key, in AWS's words.
const (
	stateEnabled         = "Enabled"
	stateDisabled        = "Disabled"
	statePendingDeletion = "PendingDeletion"
)

const keySize = 32

// masterKey is a KMS key.
type masterKey struct {
	id        string // a UUID
	arn       string
	aead      cipher.AEAD
	state     string
	createdAt time.Time
}

// CreateKey makes a key, with an alias (alias/…) unless that is empty, and
// returns its ARN.
func (s *Server) CreateKey(alias string) string {
	k, err := s.newKey()
	if err != nil {
		panic(err) // no random bytes
	}
	if alias != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.aliases[alias] = k.id
	}
	return k.arn
}

// Encrypt is the operation, without a request.
func (s *Server) Encrypt(arn string, plaintext []byte, context map[string]string) []byte {
	k, failure := s.find(arn)
	if failure != nil {
		panic(failure)
	}
	blob, err := k.seal(s.opts.Random, plaintext, context)
	if err != nil {
		panic(err) // no random bytes
	}
	return blob
}

// Disable disables a key by its ARN.
func (s *Server) Disable(arn string) { s.setState(arn, stateDisabled) }

// Enable enables a key by its ARN.
func (s *Server) Enable(arn string) { s.setState(arn, stateEnabled) }

func (s *Server) setState(arn, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if k.arn == arn {
			k.state = state
			return
		}
	}
	panic("the KMS double has no key " + arn)
}

func (s *Server) newKey() (*masterKey, error) {
	secret := make([]byte, keySize)
	if _, err := io.ReadFull(s.opts.Random, secret); err != nil {
		return nil, err
	}
	aead, err := newAEAD(secret)
	if err != nil {
		return nil, err
	}
	id := uuid.NewString()
	k := &masterKey{
		id: id, arn: s.arnPrefix() + "key/" + id, aead: aead, state: stateEnabled, createdAt: s.opts.Now(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[id] = k
	return k, nil
}

func (s *Server) arnPrefix() string {
	return "arn:aws:kms:" + s.opts.Region + ":" + s.opts.Account + ":"
}

// resolve returns the ARN of the key that an id, alias or ARN names, or the name itself
// if there is no such key. The caller holds mu.
func (s *Server) resolve(name string) string {
	short := strings.TrimPrefix(strings.TrimPrefix(name, s.arnPrefix()), "key/")
	if id, ok := s.aliases[short]; ok {
		short = id
	}
	if k := s.keys[short]; k != nil {
		return k.arn
	}
	return name
}

// find returns the key that an id, alias or ARN names.
func (s *Server) find(name string) (*masterKey, *Failure) {
	if name == "" {
		return nil, failf("ValidationException", "1 validation error detected: Value at 'keyId' failed to satisfy constraint: Member must not be null")
	}
	if strings.HasPrefix(name, "arn:") && !strings.HasPrefix(name, s.arnPrefix()) {
		if parts := strings.Split(name, ":"); len(parts) > 3 && parts[3] != s.opts.Region {
			return nil, failf("NotFoundException", "Invalid arn %s", parts[3])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	arn := s.resolve(name)
	for _, k := range s.keys {
		if k.arn == arn {
			copied := *k
			return &copied, nil
		}
	}
	if strings.Contains(name, "alias/") {
		return nil, failf("NotFoundException", "Alias %s is not found.", s.arnPrefix()+strings.TrimPrefix(name, s.arnPrefix()))
	}
	return nil, failf("NotFoundException", "Key '%s' does not exist", s.arnPrefix()+"key/"+strings.TrimPrefix(strings.TrimPrefix(name, s.arnPrefix()), "key/"))
}

// usable returns the reason why the key cannot encrypt and decrypt now, or nil.
func (k *masterKey) usable() *Failure {
	switch k.state {
	case stateEnabled:
		return nil
	case stateDisabled:
		return failf("DisabledException", "%s is disabled.", k.arn)
	}
	return failf("KMSInvalidStateException", "%s is pending deletion.", k.arn)
}

// The form of a ciphertext: version, the key's id, nonce, sealed text.
const (
	blobVersion = 1
	idSize      = 16
	nonceSize   = 12
	blobHeader  = 1 + idSize + nonceSize
)

var errBlob = errors.New("not a ciphertext of this KMS")

func newAEAD(secret []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal encrypts under the key.
func (k *masterKey) seal(random io.Reader, plaintext []byte, context map[string]string) ([]byte, error) {
	id, err := uuid.Parse(k.id)
	if err != nil {
		return nil, err
	}
	blob := make([]byte, blobHeader, blobHeader+len(plaintext)+k.aead.Overhead())
	blob[0] = blobVersion
	copy(blob[1:], id[:])
	if _, err := io.ReadFull(random, blob[1+idSize:blobHeader]); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	return k.aead.Seal(blob, blob[1+idSize:blobHeader], plaintext, canonical(blob[:1+idSize], context)), nil
}

// open decrypts a ciphertext of seal with the same context.
func (k *masterKey) open(blob []byte, context map[string]string) ([]byte, error) {
	return k.aead.Open(nil, blob[1+idSize:blobHeader], blob[blobHeader:], canonical(blob[:1+idSize], context))
}

// keyOf returns the id of the key that a ciphertext was made under.
func keyOf(blob []byte) (string, error) {
	if len(blob) < blobHeader || blob[0] != blobVersion {
		return "", errBlob
	}
	id, err := uuid.FromBytes(blob[1 : 1+idSize])
	return id.String(), err
}

// canonical is the authenticated data, which differs for every two contexts.
func canonical(prefix []byte, context map[string]string) []byte {
	data := slices.Clone(prefix)
	for _, name := range slices.Sorted(maps.Keys(context)) {
		for _, text := range []string{name, context[name]} {
			data = binary.BigEndian.AppendUint32(data, uint32(len(text)))
			data = append(data, text...)
		}
	}
	return data
}
