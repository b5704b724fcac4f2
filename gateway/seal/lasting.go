package seal

import (
	"crypto/hmac"
	"crypto/sha256"

	"vault-plugin-secrets-mcp/gateway/grants"
)

// SealLasting seals a text under the registration key. The same text for the same purpose
// always has the same sealed form: its salt is a MAC of the text, as the synthetic IV of RFC
// 5297 is. So a reader of two sealed texts learns whether they are equal, and nothing else.
func (s *Sealer) SealLasting(purpose Purpose, plain []byte) (string, error) {
	keys, err := s.lasting()
	if err != nil {
		return "", err
	}
	var header [headerSize]byte
	header[0] = formatLasting
	fingerprint, err := fingerprint(keys)
	if err != nil {
		return "", err
	}
	copy(header[1:], fingerprint)
	salt, err := syntheticSalt(keys, purpose, plain)
	if err != nil {
		return "", err
	}
	copy(header[prefixSize:], salt)
	return sealed(keys.Registration[:], header, purpose, keys.MountID, nil, plain)
}

// OpenLasting returns the text, or [ErrNotValid], or [ErrNoKeys]. It is [ErrNewerKey] where
// the text is sealed under another registration key: an older one, which gateways have
// dropped, or a newer one, of which this gateway has not heard.
func (s *Sealer) OpenLasting(purpose Purpose, text string) ([]byte, error) {
	keys, err := s.lasting()
	if err != nil {
		return nil, err
	}
	raw, err := decode(formatLasting, text)
	if err != nil {
		return nil, err
	}
	own, err := fingerprint(keys)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(own, raw[1:prefixSize]) {
		return nil, ErrNewerKey
	}
	plain, err := opened(keys.Registration[:], raw, purpose, keys.MountID, nil)
	if err != nil {
		return nil, err
	}
	salt, err := syntheticSalt(keys, purpose, plain)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(salt, raw[prefixSize:headerSize]) {
		return nil, ErrNotValid
	}
	return plain, nil
}

// DeriveLasting returns a secret of 32 bytes that belongs to the text: only gateways of the
// mount can compute it.
func (s *Sealer) DeriveLasting(purpose Purpose, text []byte) ([]byte, error) {
	keys, err := s.lasting()
	if err != nil {
		return nil, err
	}
	return mac(keys, "secret", purpose, text)
}

// lasting returns keys with a registration key. An engine of an earlier version gives none.
func (s *Sealer) lasting() (*grants.SessionKeys, error) {
	keys := s.source()
	if keys == nil || keys.Registration == [grants.SessionKeySize]byte{} {
		return nil, ErrNoKeys
	}
	return keys, nil
}

// fingerprint names a registration key without telling it.
func fingerprint(keys *grants.SessionKeys) ([]byte, error) {
	key, err := derive(keys.Registration[:], nil, "fingerprint", "")
	if err != nil {
		return nil, err
	}
	return key[:keySize], nil
}

func syntheticSalt(keys *grants.SessionKeys, purpose Purpose, plain []byte) ([]byte, error) {
	sum, err := mac(keys, "salt", purpose, plain)
	if err != nil {
		return nil, err
	}
	return sum[:saltSize], nil
}

func mac(keys *grants.SessionKeys, use string, purpose Purpose, text []byte) ([]byte, error) {
	key, err := derive(keys.Registration[:], []byte(keys.MountID), use, purpose)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil), nil
}
