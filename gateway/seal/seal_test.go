package seal

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/grants"
)

var (
	bound = []byte("cookie-1")
	plain = []byte(`{"client":"one"}`)
)

// keysOf returns a snapshot that holds the given versions; the last is the current one.
func keysOf(versions ...int) *grants.SessionKeys {
	keys := &grants.SessionKeys{MountID: "mount-1", Keys: map[int][grants.SessionKeySize]byte{}, Registration: [32]byte{7, 7}}
	for _, v := range versions {
		keys.Keys[v] = [grants.SessionKeySize]byte{byte(v), 1, 2, 3}
		keys.Current = v
	}
	return keys
}

func sealer(keys *grants.SessionKeys) *Sealer {
	return New(func() *grants.SessionKeys { return keys })
}

func sealText(t testing.TB, s *Sealer, purpose Purpose) string {
	t.Helper()
	text, err := s.Seal(purpose, bound, plain)
	require.NoError(t, err)
	return text
}

func sealLasting(t testing.TB, s *Sealer, purpose Purpose) string {
	t.Helper()
	text, err := s.SealLasting(purpose, plain)
	require.NoError(t, err)
	return text
}

var purposes = []Purpose{Transaction, Consent, Choice, Code, Refresh, Registration, Secret, Task}

func TestASealedTextOpensAtAnyGatewayOfTheMount(t *testing.T) {
	for _, content := range [][]byte{nil, {0}, plain, bytes.Repeat([]byte("x"), 4000)} {
		text, err := sealer(keysOf(1)).Seal(Code, bound, content)
		require.NoError(t, err)
		got, err := sealer(keysOf(1)).Open(Code, bound, text)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))

		text, err = sealer(keysOf(1)).SealLasting(Registration, content)
		require.NoError(t, err)
		got, err = sealer(keysOf(5)).OpenLasting(Registration, text)
		require.NoError(t, err, "session keys come and go")
		require.True(t, bytes.Equal(content, got))
	}
}

func TestASealedTextTellsNothing(t *testing.T) {
	for _, text := range []string{sealText(t, sealer(keysOf(1)), Code), sealLasting(t, sealer(keysOf(1)), Registration)} {
		raw, err := encoding.DecodeString(text)
		require.NoError(t, err)
		require.NotContains(t, string(raw), "client")
		require.Len(t, raw, overhead+len(plain))
	}
	require.NotContains(t, (&grants.SessionKeys{Registration: [32]byte{1}}).GoString(), "1")
}

func TestEachPurposeOpensForItselfAlone(t *testing.T) {
	s := sealer(keysOf(1))
	for _, of := range purposes {
		text, lasting := sealText(t, s, of), sealLasting(t, s, of)
		for _, other := range append(purposes, "", of+"x", "text\x00"+of) {
			_, err := s.Open(other, bound, text)
			_, lastingErr := s.OpenLasting(other, lasting)
			if other == of {
				require.NoError(t, err)
				require.NoError(t, lastingErr)
				continue
			}
			require.ErrorIs(t, err, ErrNotValid, "%s as %s", of, other)
			require.ErrorIs(t, lastingErr, ErrNotValid, "%s as %s", of, other)
		}
	}
}

// The two kinds of texts do not stand for each other, even where the keys are the same.
func TestATextThatExpiresIsNotOneThatLasts(t *testing.T) {
	keys := keysOf(1)
	keys.Keys[1] = keys.Registration
	s := sealer(keys)
	_, err := s.OpenLasting(Code, sealText(t, s, Code))
	require.ErrorIs(t, err, ErrNotValid)
	_, err = s.Open(Code, nil, sealLasting(t, s, Code))
	require.ErrorIs(t, err, ErrNotValid)
	for _, from := range []string{sealText(t, s, Code), sealLasting(t, s, Code)} {
		raw, err := encoding.DecodeString(from)
		require.NoError(t, err)
		raw[0] = formatExpiring + formatLasting - raw[0]
		copy(raw[1:], []byte{0, 0, 0, 1})
		_, err = s.Open(Code, bound, encoding.EncodeToString(raw))
		require.ErrorIs(t, err, ErrNotValid)
		_, err = s.OpenLasting(Code, encoding.EncodeToString(raw))
		require.ErrorIs(t, err, ErrNotValid)
	}
}

func TestASealedTextOpensWithItsOwnBoundDataAndMountAlone(t *testing.T) {
	otherMount := keysOf(1)
	otherMount.MountID = "mount-2"
	joined := keysOf(1)
	joined.MountID = "mount-1cookie-"
	text := sealText(t, sealer(keysOf(1)), Consent)
	tests := map[string]struct {
		keys  *grants.SessionKeys
		bound []byte
	}{
		"other bound data":               {keysOf(1), []byte("cookie-2")},
		"none":                           {keysOf(1), nil},
		"longer ones":                    {keysOf(1), []byte("cookie-10")},
		"another mount":                  {otherMount, bound},
		"parts that join up to the same": {joined, []byte("1")},
		"another key of that version":    {&grants.SessionKeys{MountID: "mount-1", Current: 1, Keys: map[int][32]byte{1: {9}}}, bound},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := sealer(test.keys).Open(Consent, test.bound, text)
			require.ErrorIs(t, err, ErrNotValid)
			require.NotErrorIs(t, err, ErrNewerKey)
		})
	}
	_, err := sealer(otherMount).OpenLasting(Consent, sealLasting(t, sealer(keysOf(1)), Consent))
	require.ErrorIs(t, err, ErrNotValid)
}

func TestKeysThatAreOlderOpenWhileTheyAreKept(t *testing.T) {
	keys := keysOf(1)
	s := New(func() *grants.SessionKeys { return keys })
	old := sealText(t, s, Refresh)
	keys = keysOf(1, 2)
	got, err := s.Open(Refresh, bound, old)
	require.NoError(t, err)
	require.Equal(t, plain, got)
	raw, err := encoding.DecodeString(sealText(t, s, Refresh))
	require.NoError(t, err)
	require.Equal(t, byte(2), raw[keySize], "new texts are sealed under the new key")
	keys = keysOf(2)
	_, err = s.Open(Refresh, bound, old)
	require.ErrorIs(t, err, ErrNotValid, "drop_old")
	require.NotErrorIs(t, err, ErrNewerKey, "an older key does not come back")
}

func TestANewerKeyIsToldFromATextThatOpensForNobody(t *testing.T) {
	text := sealText(t, sealer(keysOf(1, 2, 3)), Code)
	_, err := sealer(keysOf(1, 2)).Open(Code, bound, text)
	require.ErrorIs(t, err, ErrNewerKey)
	require.ErrorIs(t, err, ErrNotValid)
	got, err := sealer(keysOf(2, 3)).Open(Code, bound, text)
	require.NoError(t, err)
	require.Equal(t, plain, got)
}

// After gateway/keys/rotate drop_old=true there is another registration key. A gateway that
// does not have it yet must ask; registrations under the old one are gone.
func TestAnotherRegistrationKeyIsToldAndOpensNothingOld(t *testing.T) {
	before, after := keysOf(1), keysOf(1)
	after.Registration = [32]byte{8}
	old, fresh := sealLasting(t, sealer(before), Registration), sealLasting(t, sealer(after), Registration)
	require.NotEqual(t, old, fresh)
	for text, s := range map[string]*Sealer{old: sealer(after), fresh: sealer(before)} {
		_, err := s.OpenLasting(Registration, text)
		require.ErrorIs(t, err, ErrNewerKey)
		require.ErrorIs(t, err, ErrNotValid)
	}
	one, err := sealer(before).DeriveLasting(Secret, []byte(old))
	require.NoError(t, err)
	other, err := sealer(after).DeriveLasting(Secret, []byte(old))
	require.NoError(t, err)
	require.NotEqual(t, one, other)
}

func TestTheSameTextIsSealedToTheSameOnlyWhereItLasts(t *testing.T) {
	s := sealer(keysOf(1))
	one, other := sealText(t, s, Code), sealText(t, s, Code)
	require.NotEqual(t, one, other)
	require.Equal(t, sealLasting(t, s, Registration), sealLasting(t, sealer(keysOf(9)), Registration))
	require.NotEqual(t, sealLasting(t, s, Registration), sealLasting(t, s, Secret))
	longer, err := s.SealLasting(Registration, append([]byte{' '}, plain...))
	require.NoError(t, err)
	require.NotEqual(t, sealLasting(t, s, Registration)[:40], longer[:40], "no two texts share a key")
}

func TestDerivedSecretsBelongToOneTextOnePurposeAndOneMount(t *testing.T) {
	otherMount := keysOf(1)
	otherMount.MountID = "mount-2"
	seen := map[string]bool{}
	for _, one := range []struct {
		keys    *grants.SessionKeys
		purpose Purpose
		text    string
	}{{keysOf(1), Secret, "a"}, {keysOf(1), Secret, "b"}, {keysOf(1), Registration, "a"}, {otherMount, Secret, "a"}} {
		secret, err := sealer(one.keys).DeriveLasting(one.purpose, []byte(one.text))
		require.NoError(t, err)
		require.Len(t, secret, 32)
		require.False(t, seen[string(secret)])
		seen[string(secret)] = true
		again, err := sealer(one.keys).DeriveLasting(one.purpose, []byte(one.text))
		require.NoError(t, err)
		require.Equal(t, secret, again)
	}
}

func TestEveryChangedBitAndEveryCutIsSeen(t *testing.T) {
	s := sealer(keysOf(1))
	openers := map[string]func(string) ([]byte, error){
		sealText(t, s, Code):            func(text string) ([]byte, error) { return s.Open(Code, bound, text) },
		sealLasting(t, s, Registration): func(text string) ([]byte, error) { return s.OpenLasting(Registration, text) },
	}
	for text, open := range openers {
		raw, err := encoding.DecodeString(text)
		require.NoError(t, err)
		for i := range raw {
			for bit := range 8 {
				raw[i] ^= 1 << bit
				_, err := open(encoding.EncodeToString(raw))
				require.ErrorIs(t, err, ErrNotValid, "byte %d, bit %d", i, bit)
				raw[i] ^= 1 << bit
			}
		}
		for n := range raw {
			_, err := open(encoding.EncodeToString(raw[:n]))
			require.ErrorIs(t, err, ErrNotValid, "cut to %d bytes", n)
		}
		_, err = open(encoding.EncodeToString(append(raw, 0)))
		require.ErrorIs(t, err, ErrNotValid)
	}
}

func TestASealedTextHasOneSpelling(t *testing.T) {
	s := sealer(keysOf(1))
	text := sealText(t, s, Code)
	raw, err := encoding.DecodeString(text)
	require.NoError(t, err)
	for name, other := range map[string]string{
		"nothing":                "",
		"no base64":              "!!!!",
		"padding":                text + "==",
		"standard base64":        base64.StdEncoding.EncodeToString(raw),
		"a space behind":         text + " ",
		"a line break inside":    text[:8] + "\n" + text[8:],
		"a line break at an end": text + "\r\n",
		"an absurd length":       strings.Repeat("A", maxSealed+1),
		"zeros":                  strings.Repeat("A", 100),
		"twice":                  text + text,
	} {
		_, err := s.Open(Code, bound, other)
		require.ErrorIs(t, err, ErrNotValid, name)
	}
	// The last character's spare bits.
	last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", text[len(text)-1])
	if spare := len(text) * 6 % 8; spare != 0 {
		alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		_, err = s.Open(Code, bound, text[:len(text)-1]+string(alphabet[last|1]))
		require.ErrorIs(t, err, ErrNotValid)
	}
}

// TestASaltThatIsNotTheTextsOwnIsRefused: an application that could make one text with two
// salts could have two client_ids for one registration.
func TestASaltThatIsNotTheTextsOwnIsRefused(t *testing.T) {
	keys := keysOf(1)
	var header [headerSize]byte
	header[0] = formatLasting
	name, err := fingerprint(keys)
	require.NoError(t, err)
	copy(header[1:], name)
	text, err := sealed(keys.Registration[:], header, Registration, keys.MountID, nil, plain)
	require.NoError(t, err)
	_, err = sealer(keys).OpenLasting(Registration, text)
	require.ErrorIs(t, err, ErrNotValid)
}

func TestWithoutKeysNothingIsSealedOrOpened(t *testing.T) {
	withoutRegistration := keysOf(1)
	withoutRegistration.Registration = [32]byte{}
	text, lasting := sealText(t, sealer(keysOf(1)), Code), sealLasting(t, sealer(keysOf(1)), Code)
	for name, keys := range map[string]*grants.SessionKeys{"none": nil, "no registration key": withoutRegistration} {
		s := sealer(keys)
		_, err := s.SealLasting(Registration, plain)
		require.ErrorIs(t, err, ErrNoKeys, name)
		_, err = s.OpenLasting(Registration, lasting)
		require.ErrorIs(t, err, ErrNoKeys, name)
		_, err = s.DeriveLasting(Secret, plain)
		require.ErrorIs(t, err, ErrNoKeys, name)
	}
	_, err := sealer(nil).Seal(Code, bound, plain)
	require.ErrorIs(t, err, ErrNoKeys)
	_, err = sealer(nil).Open(Code, bound, text)
	require.ErrorIs(t, err, ErrNoKeys)
	_, err = sealer(&grants.SessionKeys{MountID: "m", Current: 2}).Seal(Code, bound, plain)
	require.ErrorIs(t, err, ErrNoKeys)
}

// Two texts as an earlier gateway has sealed them, under keysOf(1, 2).
const (
	earlierCode         = "AQAAAALsc3Y1l4O8LN53YQth0YQfCianC3TDaEDlsXFpcAmlPwXPOk5_1PMQ3k-kSCVHqbdaUXBEm8JoOQ"
	earlierRegistration = "AltKtGqVd6vbeRmK9XnZHP5gyElAAMfBntbZxaK55CtrYf9QTxzCurPIz3thhb0cSmmpu9ASE9Wgg8Avnw"
)

// TestTextsOfEarlierGatewaysOpen: a client_id lives as long as its application keeps it.
func TestTextsOfEarlierGatewaysOpen(t *testing.T) {
	got, err := sealer(keysOf(1, 2)).Open(Code, bound, earlierCode)
	require.NoError(t, err)
	require.Equal(t, plain, got)
	got, err = sealer(keysOf(3)).OpenLasting(Registration, earlierRegistration)
	require.NoError(t, err)
	require.Equal(t, plain, got)
	require.Equal(t, earlierRegistration, sealLasting(t, sealer(keysOf(3)), Registration))
}

// FuzzOpen: only sealed texts open, and nothing panics.
func FuzzOpen(f *testing.F) {
	s := sealer(keysOf(1, 2))
	f.Add(earlierCode, "cookie-1")
	f.Add(earlierRegistration, "")
	f.Add(earlierCode[:40], "cookie-1")
	f.Add(strings.ToLower(earlierCode), "cookie-1")
	f.Add("AQAAAAI", "")
	f.Fuzz(func(t *testing.T, text, with string) {
		if got, err := s.Open(Code, []byte(with), text); err == nil && (text != earlierCode || with != string(bound) || !bytes.Equal(got, plain)) {
			t.Fatalf("%q opens", text)
		}
		if got, err := s.OpenLasting(Registration, text); err == nil && (text != earlierRegistration || !bytes.Equal(got, plain)) {
			t.Fatalf("%q opens", text)
		}
	})
}
