package pin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Digest is the SHA-256 of a definition's canonical JSON.
type Digest [sha256.Size]byte

// digestPrefix names the algorithm in a digest's text.
const digestPrefix = "sha256:"

// String is sha256: and 64 hexadecimal digits.
func (d Digest) String() string { return digestPrefix + hex.EncodeToString(d[:]) }

// ParseDigest reads the text of a digest, in lower case as String writes it.
func ParseDigest(text string) (Digest, error) {
	var d Digest
	digits, prefixed := strings.CutPrefix(text, digestPrefix)
	if !prefixed || len(digits) != hex.EncodedLen(len(d)) || strings.ToLower(digits) != digits {
		return d, notADigest(text)
	}
	if _, err := hex.Decode(d[:], []byte(digits)); err != nil {
		return Digest{}, notADigest(text)
	}
	return d, nil
}

func notADigest(text string) error {
	return fmt.Errorf("%.80q is not a valid digest: write it like sha256: and 64 hexadecimal digits in lower case", text)
}

// Compare orders digests.
func (d Digest) Compare(other Digest) int { return bytes.Compare(d[:], other[:]) }

// MarshalText is [Digest.String] for encoding/json.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is [ParseDigest] for encoding/json.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err == nil {
		*d = parsed
	}
	return err
}
