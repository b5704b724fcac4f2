// Package token has the form of a client token: how to make one, check one and seal one.
// It uses no Vault, no storage and no clock.
//
// An issued token is
//
//	mcpt_ + 43 characters of base62 (256 random bits) + 6 characters of checksum
//
// The prefix lets secret scanners recognise a leaked token. The checksum (CRC-32
// of prefix and body, in base62) lets a gateway refuse a mistyped or invented one without
// asking Vault. It does not stop an attacker, who can compute it too; the 256 random bits
// do.
//
// A custom token comes from its owner. It must fit into an Authorization header: it is a
// b64token of RFC 6750, section 2.1.
//
// A sealed token (mcpk_) is either of them, encrypted under a data key; see
// [SealingKey].
package token

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

const (
	// Prefix starts every issued token.
	Prefix = "mcpt_"

	// SealedPrefix starts every token that is sealed under a KMS data key.
	SealedPrefix = "mcpk_"

	// MinCustomLength is the least number of characters that any mount accepts
	// for a custom token; a mount's own minimum may be higher, never lower.
	MinCustomLength = 12

	// MaxLength bounds every token, in characters. Longer ones are refused
	// before they are hashed.
	MaxLength = 4096

	bodyLength     = 43
	checksumLength = 6
	issuedLength   = len(Prefix) + bodyLength + checksumLength
)

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// Reasons for which a token is refused by its form alone. None of them repeats
// any part of the token.
var (
	ErrEmpty    = errors.New("the token is empty")
	ErrTooLong  = fmt.Errorf("the token is longer than %d characters", MaxLength)
	ErrTooShort = errors.New("the token is too short")
	ErrCharset  = errors.New("the token has a character that RFC 6750 does not allow in a bearer token: use letters, digits and - . _ ~ + /, with = only at the end")
	ErrChecksum = errors.New("the token starts with " + Prefix + " but this engine did not issue it: its length or its checksum is wrong")
	ErrReserved = errors.New("the prefixes " + Prefix + " and " + SealedPrefix + " are reserved for tokens that the engine issues")
)

// New mints an issued token from 256 bits of random. The error is random's own.
func New(random io.Reader) (string, error) {
	b := make([]byte, 0, issuedLength)
	b = append(b, Prefix...)
	b, err := appendRandom(b, random, bodyLength)
	if err != nil {
		return "", err
	}
	return string(appendChecksum(b)), nil
}

// RandomID returns n characters of base62 from random: an identifier that
// carries about 5.95 bits a character.
func RandomID(random io.Reader, n int) (string, error) {
	b, err := appendRandom(make([]byte, 0, n), random, n)
	return string(b), err
}

// IsID reports whether s consists of the characters of [RandomID] alone.
func IsID(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) {
			return false
		}
	}
	return true
}

// Malformed explains why s cannot be a token of any mount, or nil if it may be one.
// It is the check that costs nothing, made before Vault is asked.
func Malformed(s string) error {
	switch {
	case strings.HasPrefix(s, Prefix):
		return checkIssued(s)
	case IsSealed(s):
		_, err := decodeSealed(s)
		return err
	}
	return checkB64Token(s, MinCustomLength)
}

// CheckCustom explains why s cannot be taken as a custom token of at least
// minLength characters, or nil if it can.
func CheckCustom(s string, minLength int) error {
	if strings.HasPrefix(s, Prefix) || IsSealed(s) {
		return ErrReserved
	}
	return checkB64Token(s, max(minLength, MinCustomLength))
}

func checkIssued(s string) error {
	if len(s) != issuedLength {
		return ErrChecksum
	}
	body := s[:issuedLength-checksumLength]
	for i := len(Prefix); i < len(body); i++ {
		if !isAlphanumeric(body[i]) {
			return ErrChecksum
		}
	}
	var sum [checksumLength]byte
	putChecksum(&sum, crc32.ChecksumIEEE([]byte(body)))
	if s[len(body):] != string(sum[:]) {
		return ErrChecksum
	}
	return nil
}

// checkB64Token checks RFC 6750's b64token: 1*( ALPHA / DIGIT / "-" / "." /
// "_" / "~" / "+" / "/" ) *"=".
func checkB64Token(s string, minLength int) error {
	switch {
	case s == "":
		return ErrEmpty
	case len(s) > MaxLength:
		return ErrTooLong
	}
	unpadded := strings.TrimRight(s, "=")
	if unpadded == "" {
		return ErrCharset
	}
	for i := range len(unpadded) {
		if c := unpadded[i]; !isAlphanumeric(c) && !strings.ContainsRune("-._~+/", rune(c)) {
			return ErrCharset
		}
	}
	if len(s) < minLength {
		return fmt.Errorf("%w: %d characters, and at least %d are required", ErrTooShort, len(s), minLength)
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// appendRandom appends n uniform characters of the alphabet. Bytes of 248 and
// above are thrown away, since 256 is not a multiple of 62 and keeping them would
// favour the first eight characters.
func appendRandom(dst []byte, random io.Reader, n int) ([]byte, error) {
	const unbiased = 256 - 256%len(alphabet)
	var buf [64]byte
	for n > 0 {
		if _, err := io.ReadFull(random, buf[:]); err != nil {
			return nil, fmt.Errorf("read random bytes: %w", err)
		}
		for _, c := range buf {
			if n > 0 && int(c) < unbiased {
				dst = append(dst, alphabet[int(c)%len(alphabet)])
				n--
			}
		}
	}
	return dst, nil
}

func appendChecksum(b []byte) []byte {
	var sum [checksumLength]byte
	putChecksum(&sum, crc32.ChecksumIEEE(b))
	return append(b, sum[:]...)
}

// putChecksum writes crc in base62, most significant character first. Six
// characters hold it, since 62^6 > 2^32.
func putChecksum(dst *[checksumLength]byte, crc uint32) {
	for i := checksumLength - 1; i >= 0; i-- {
		dst[i] = alphabet[crc%uint32(len(alphabet))]
		crc /= uint32(len(alphabet))
	}
}
