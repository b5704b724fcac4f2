package token

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

const (
	testKeyID    = "0123456789abcdef"
	testMount    = "mcp_1a2b3c4d"
	testAudience = "https://mcp.example.com"
)

func sealingKey(t testing.TB, id string, key byte, mount, audience string) *SealingKey {
	t.Helper()
	k, err := NewSealingKey(id, bytes.Repeat([]byte{key}, 32), mount, audience)
	require.NoError(t, err)
	return k
}

func issued(t testing.TB) string {
	t.Helper()
	s, err := New(rand.Reader)
	require.NoError(t, err)
	return s
}

func TestASealedTokenOpensToTheTokenInIt(t *testing.T) {
	k := sealingKey(t, testKeyID, 1, testMount, testAudience)
	for _, tok := range []string{issued(t), "my_custom_token_123", "YWJjZGVmZ2hpamts==", strings.Repeat("a", MaxSealable)} {
		sealed, err := k.Seal(rand.Reader, tok)
		require.NoError(t, err)
		require.True(t, IsSealed(sealed))
		require.NotContains(t, sealed, tok)
		require.LessOrEqual(t, len(sealed), MaxLength)
		require.NoError(t, Malformed(sealed))
		id, err := SealedUnder(sealed)
		require.NoError(t, err)
		require.Equal(t, testKeyID, id)
		opened, err := k.Open(sealed)
		require.NoError(t, err)
		require.Equal(t, tok, opened)
	}
}

func TestSealedTokensHaveOneForm(t *testing.T) {
	k := sealingKey(t, testKeyID, 1, testMount, testAudience)
	tok := issued(t)
	seen := map[string]bool{}
	for range 100 {
		sealed, err := k.Seal(rand.Reader, tok)
		require.NoError(t, err)
		require.Len(t, sealed, 127)
		require.Regexp(t, `^mcpk_[A-Za-z0-9_-]{122}$`, sealed)
		require.False(t, seen[sealed], "two sealings of a token are the same")
		seen[sealed] = true
	}
}

// A sealed token that was altered in any way is refused.
func TestAnAlteredSealedTokenIsRefused(t *testing.T) {
	k := sealingKey(t, testKeyID, 1, testMount, testAudience)
	sealed, err := k.Seal(rand.Reader, issued(t))
	require.NoError(t, err)

	for i := range len(sealed) + 1 {
		_, err := k.Open(sealed[:i] + "A" + sealed[i:])
		require.Error(t, err, "a character put in at %d", i)
	}
	for i := range sealed {
		for _, c := range []byte{'A', 'B', '_'} {
			if sealed[i] == c {
				continue
			}
			_, err := k.Open(sealed[:i] + string(c) + sealed[i+1:])
			require.Error(t, err, "character %d replaced by %c", i, c)
		}
		_, err = k.Open(sealed[:i])
		require.Error(t, err, "cut to %d characters", i)
		_, err = k.Open(sealed[:i] + sealed[i+1:])
		require.Error(t, err, "character %d left out", i)
	}
	for _, more := range []string{"=", "\n", "\r\n", " "} {
		require.ErrorIs(t, Malformed(sealed+more), ErrSealedForm)
	}
}

func TestASealedTokenMeansNothingElsewhere(t *testing.T) {
	sealed, err := sealingKey(t, testKeyID, 1, testMount, testAudience).Seal(rand.Reader, issued(t))
	require.NoError(t, err)
	const otherID = "fedcba9876543210"
	for name, k := range map[string]*SealingKey{
		"at another mount":             sealingKey(t, testKeyID, 1, "mcp_other", testAudience),
		"for another audience":         sealingKey(t, testKeyID, 1, testMount, "https://other.example.com"),
		"with the border moved":        sealingKey(t, testKeyID, 1, testMount+"h", testAudience[1:]),
		"under another data key":       sealingKey(t, testKeyID, 2, testMount, testAudience),
		"under the key by another id":  sealingKey(t, otherID, 1, testMount, testAudience),
		"under another key and its id": sealingKey(t, otherID, 2, testMount, testAudience),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.Open(sealed)
			require.ErrorIs(t, err, ErrUnsealable)
		})
	}
	t.Run("with another key's id written into it", func(t *testing.T) {
		raw, err := decodeSealed(sealed)
		require.NoError(t, err)
		id, err := hex.DecodeString(otherID)
		require.NoError(t, err)
		copy(raw[1:], id)
		replayed := SealedPrefix + sealedEncoding.EncodeToString(raw)
		named, err := SealedUnder(replayed)
		require.NoError(t, err)
		require.Equal(t, otherID, named)
		for _, key := range []byte{1, 2} {
			_, err = sealingKey(t, otherID, key, testMount, testAudience).Open(replayed)
			require.ErrorIs(t, err, ErrUnsealable)
		}
	})
}

func TestWhatIsNoSealedTokenIsRefusedByItsForm(t *testing.T) {
	version2 := SealedPrefix + sealedEncoding.EncodeToString(append([]byte{2}, make([]byte, 100)...))
	loose := SealedPrefix + sealedEncoding.EncodeToString(append([]byte{1}, make([]byte, 90)...))
	loose = loose[:len(loose)-1] + "B" // bits that stand for nothing
	for name, s := range map[string]string{
		"the prefix alone":             SealedPrefix,
		"too few bytes for any token":  SealedPrefix + sealedEncoding.EncodeToString(append([]byte{1}, make([]byte, 47)...)),
		"an unknown version":           version2,
		"the other alphabet of base64": SealedPrefix + "AQ+/" + strings.Repeat("A", 118),
		"padding":                      SealedPrefix + strings.Repeat("A", 120) + "==",
		"loose bits at the end":        loose,
		"too many characters":          SealedPrefix + "AQ" + strings.Repeat("A", MaxLength),
		"another prefix":               "mcpt_" + strings.Repeat("A", 122),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := SealedUnder(s)
			require.ErrorIs(t, err, ErrSealedForm)
			require.Error(t, Malformed(s))
		})
	}
}

// A seal within a seal has no use, and the checks of the outer one could be mistaken
// for checks of the inner one.
func TestASealedTokenHoldsNoSealedToken(t *testing.T) {
	k := sealingKey(t, testKeyID, 1, testMount, testAudience)
	inner, err := k.Seal(rand.Reader, issued(t))
	require.NoError(t, err)
	outer, err := k.Seal(rand.Reader, inner)
	require.NoError(t, err)
	_, err = k.Open(outer)
	require.ErrorIs(t, err, ErrUnsealable)
}

func TestSealingRefusals(t *testing.T) {
	k := sealingKey(t, testKeyID, 1, testMount, testAudience)
	_, err := k.Seal(rand.Reader, strings.Repeat("a", MaxSealable+1))
	require.ErrorContains(t, err, "cannot be sealed")
	broken := errors.New("no entropy")
	_, err = k.Seal(iotest.ErrReader(broken), issued(t))
	require.ErrorIs(t, err, broken)
	_, err = NewKeyID(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
	for name, id := range map[string]string{"short": "0123", "upper-case": "0123456789ABCDEF", "no hexadecimal": "0123456789abcdeg"} {
		_, err := NewSealingKey(id, make([]byte, 32), "", "")
		require.ErrorContains(t, err, "id", name)
	}
	_, err = NewSealingKey(testKeyID, make([]byte, 16), "", "")
	require.ErrorContains(t, err, "16 bytes instead of 32")
}

func TestASealingKeyDoesNotPrintItself(t *testing.T) {
	k := sealingKey(t, testKeyID, 1, testMount, testAudience)
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		require.Equal(t, "<sealing key "+testKeyID+">", fmt.Sprintf(form, k))
	}
	id, err := NewKeyID(rand.Reader)
	require.NoError(t, err)
	require.Len(t, id, KeyIDLength)
	require.Equal(t, id, sealingKey(t, id, 1, "", "").ID())
}

func FuzzOpen(f *testing.F) {
	k := sealingKey(f, testKeyID, 1, testMount, testAudience)
	// The same in every process that fuzzes.
	good, err := k.Seal(bytes.NewReader(make([]byte, nonceSize)), "my_custom_token_123")
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:60])
	f.Add(SealedPrefix)
	f.Add("mcpk_AQ\n")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := k.Open(s); err == nil && s != good {
			t.Fatalf("opened what was never sealed")
		}
		id, err := SealedUnder(s)
		if (err == nil) != (IsSealed(s) && Malformed(s) == nil) {
			t.Fatalf("the two checks of the form disagree: %v", err)
		}
		if err == nil && len(id) != KeyIDLength {
			t.Fatalf("an id of %d digits", len(id))
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	k := sealingKey(b, testKeyID, 1, testMount, testAudience)
	sealed, err := k.Seal(rand.Reader, issued(b))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Open(sealed); err != nil {
			b.Fatal(err)
		}
	}
}
