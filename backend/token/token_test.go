package token

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestIssuedTokensHaveTheDocumentedForm(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s, err := New(rand.Reader)
		require.NoError(t, err)
		require.Len(t, s, 54)
		require.True(t, strings.HasPrefix(s, Prefix))
		require.NoError(t, Malformed(s))
		require.False(t, seen[s], "a token came twice")
		seen[s] = true
	}
}

// The generator must not favour any character: a chi-squared statistic over 61
// degrees of freedom stays under 150 but once in a thousand million runs.
func TestIssuedTokensUseEveryCharacterAlike(t *testing.T) {
	count := map[byte]float64{}
	const n = 430_000
	s, err := RandomID(rand.Reader, n)
	require.NoError(t, err)
	for i := range len(s) {
		count[s[i]]++
	}
	require.Len(t, count, 62)
	expected, chi := float64(n)/62, 0.0
	for _, c := range count {
		chi += (c - expected) * (c - expected) / expected
	}
	require.Less(t, chi, 150.0)
}

func TestNewReportsAFailingRandomSource(t *testing.T) {
	broken := errors.New("no entropy")
	_, err := New(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
	_, err = New(bytes.NewReader(make([]byte, 10)))
	require.Error(t, err)
}

func TestMalformed(t *testing.T) {
	good, err := New(rand.Reader)
	require.NoError(t, err)
	flipped := []byte(good)
	flipped[20] = map[bool]byte{true: 'a', false: 'b'}[flipped[20] != 'a']

	for _, tc := range []struct {
		name  string
		token string
		want  error
	}{
		{"an issued token may be one", good, nil},
		{"one changed character breaks the checksum", string(flipped), ErrChecksum},
		{"a cut token is refused", good[:53], ErrChecksum},
		{"a longer token is refused", good + "0", ErrChecksum},
		{"the prefix alone is refused", Prefix, ErrChecksum},
		{"a dash in the body is refused", good[:20] + "-" + good[21:], ErrChecksum},
		{"an empty token is refused", "", ErrEmpty},
		{"a custom token may be one", "my_secret_token_123", nil},
		{"eleven characters are too few", "abcdefghijk", ErrTooShort},
		{"padding is allowed at the end", "YWJjZGVmZ2hpamts==", nil},
		{"padding is not allowed in the middle", "YWJj=ZGVmZ2hpamts", ErrCharset},
		{"padding alone is no token", "============", ErrCharset},
		{"a space is refused", "my secret token", ErrCharset},
		{"a line feed is refused", "my_secret_token\n", ErrCharset},
		{"a NUL is refused", "my_secret_token\x00", ErrCharset},
		{"a letter beyond ASCII is refused", "my_sécret_token", ErrCharset},
		{"4,097 characters are too many", strings.Repeat("a", 4097), ErrTooLong},
		{"4,096 characters are not", strings.Repeat("a", 4096), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Malformed(tc.token)
			if tc.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tc.want)
			if len(tc.token) > 5 {
				require.NotContains(t, err.Error(), tc.token)
			}
		})
	}
}

func TestCheckCustom(t *testing.T) {
	for _, tc := range []struct {
		name      string
		token     string
		minLength int
		want      error
	}{
		{"a token of the least length is taken", "abcdefghijkl", 12, nil},
		{"the mount's higher minimum counts", "abcdefghijkl", 32, ErrTooShort},
		{"a minimum under twelve counts as twelve", "abcdefgh", 8, ErrTooShort},
		{"the engine's own prefix is reserved", Prefix + "abcdefghijkl", 12, ErrReserved},
		{"the sealed prefix is reserved", SealedPrefix + "abcdefghijkl", 12, ErrReserved},
		{"a bad character is named as such", "abcdefghijk!", 12, ErrCharset},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := CheckCustom(tc.token, tc.minLength)
			if tc.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tc.want)
		})
	}
}

func FuzzMalformed(f *testing.F) {
	good, err := New(rand.Reader)
	require.NoError(f, err)
	f.Add(good)
	f.Add("my_secret_token_123")
	f.Add("")
	f.Add("=")
	f.Fuzz(func(t *testing.T, s string) {
		if Malformed(s) != nil {
			return
		}
		if len(s) < MinCustomLength || len(s) > MaxLength {
			t.Fatalf("accepted %d characters", len(s))
		}
		if strings.ContainsAny(s, " \t\r\n\x00,;\"") {
			t.Fatalf("accepted a character that ends a header value")
		}
	})
}

func BenchmarkMalformed(b *testing.B) {
	good, err := New(rand.Reader)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if Malformed(good) != nil {
			b.Fatal("refused")
		}
	}
}
