package session

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/grants"
)

var owner = Owner{Principal: grants.PrincipalOf("client-1"), ServerID: "server-1"}

// ringOf returns a snapshot of keys that holds the given versions; the last is
// the current one.
func ringOf(versions ...int) *grants.SessionKeys {
	keys := &grants.SessionKeys{MountID: "mount-1", Keys: map[int][grants.SessionKeySize]byte{}}
	for _, v := range versions {
		keys.Keys[v] = [grants.SessionKeySize]byte{byte(v), 1, 2, 3}
		keys.Current = v
	}
	return keys
}

func sealer(keys *grants.SessionKeys) *Sealer {
	return NewSealer(func() *grants.SessionKeys { return keys })
}

func seal(t *testing.T, s *Sealer, o Owner, id string) string {
	t.Helper()
	sealed, err := s.Seal(o, id)
	require.NoError(t, err)
	return sealed
}

func TestASealedIDOpensForItsOwnerAtAnyGateway(t *testing.T) {
	for _, id := range []string{"!", "550e8400-e29b-41d4-a716-446655440000", strings.Repeat("~", MaxID)} {
		sealed := seal(t, sealer(ringOf(1)), owner, id)
		require.LessOrEqual(t, len(sealed), MaxSealed)
		require.NotContains(t, sealed, id)
		got, err := sealer(ringOf(1)).Open(owner, sealed)
		require.NoError(t, err)
		require.Equal(t, id, got)
	}
}

func TestTheSameIDIsSealedDifferentlyEachTime(t *testing.T) {
	s := sealer(ringOf(1))
	a, b := seal(t, s, owner, "id"), seal(t, s, owner, "id")
	require.NotEqual(t, a, b)
	require.Len(t, b, len(a), "the length depends on the id's length alone")
}

func TestASealedIDOpensForNobodyElse(t *testing.T) {
	sealed := seal(t, sealer(ringOf(1)), owner, "id")
	otherMount := ringOf(1)
	otherMount.MountID = "mount-2"
	tests := map[string]struct {
		keys  *grants.SessionKeys
		owner Owner
	}{
		"another client":                             {ringOf(1), Owner{grants.PrincipalOf("client-2"), "server-1"}},
		"another registration":                       {ringOf(1), Owner{grants.PrincipalOf("client-1"), "server-2"}},
		"another mount":                              {otherMount, owner},
		"client and server swapped":                  {ringOf(1), Owner{grants.PrincipalOf("server-1"), "client-1"}},
		"parts that join up to the same":             {ringOf(1), Owner{grants.PrincipalOf("client-1server"), "-1"}},
		"no owner":                                   {ringOf(1), Owner{}},
		"a key of that version that is not the same": {&grants.SessionKeys{MountID: "mount-1", Current: 1, Keys: map[int][32]byte{1: {9}}}, owner},
		"a version that is no longer known":          {ringOf(2), owner},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := sealer(test.keys).Open(test.owner, sealed)
			require.ErrorIs(t, err, ErrUnknown)
		})
	}
}

func TestANewKeyKeepsOpenSessions(t *testing.T) {
	keys := ringOf(1)
	s := NewSealer(func() *grants.SessionKeys { return keys })
	old := seal(t, s, owner, "id")
	keys = ringOf(1, 2)
	got, err := s.Open(owner, old)
	require.NoError(t, err)
	require.Equal(t, "id", got)
	raw, err := encoding.DecodeString(seal(t, s, owner, "id"))
	require.NoError(t, err)
	require.Equal(t, byte(2), raw[versionSize], "new sessions are sealed under the new key")
}

func TestAnIDUnderANewerKeyIsToldFromOneThatOpensForNobody(t *testing.T) {
	sealed := seal(t, sealer(ringOf(1, 2, 3)), owner, "id")
	_, err := sealer(ringOf(1, 2)).Open(owner, sealed)
	require.ErrorIs(t, err, ErrNewerKey)
	require.ErrorIs(t, err, ErrUnknown)
	_, err = sealer(ringOf(4, 5)).Open(owner, sealed)
	require.ErrorIs(t, err, ErrUnknown)
	require.NotErrorIs(t, err, ErrNewerKey, "an older key does not come back")
}

func TestEveryChangedBitIsSeen(t *testing.T) {
	s := sealer(ringOf(1))
	raw, err := encoding.DecodeString(seal(t, s, owner, "some-session"))
	require.NoError(t, err)
	for i := range raw {
		for bit := range 8 {
			raw[i] ^= 1 << bit
			_, err := s.Open(owner, encoding.EncodeToString(raw))
			require.ErrorIs(t, err, ErrUnknown, "byte %d, bit %d", i, bit)
			raw[i] ^= 1 << bit
		}
	}
	for n := range raw {
		_, err := s.Open(owner, encoding.EncodeToString(raw[:n]))
		require.ErrorIs(t, err, ErrUnknown, "cut to %d bytes", n)
	}
	_, err = s.Open(owner, encoding.EncodeToString(append(raw, 0)))
	require.ErrorIs(t, err, ErrUnknown)
}

func TestWhatWasNeverSealedIsUnknown(t *testing.T) {
	s := sealer(ringOf(1))
	sealed := seal(t, s, owner, "id-0")
	raw, err := encoding.DecodeString(sealed)
	require.NoError(t, err)
	for name, id := range map[string]string{
		"nothing":                       "",
		"the upstream's own id":         "id-0",
		"no base64":                     "!!!!",
		"padding":                       sealed + "==",
		"standard base64":               base64.StdEncoding.EncodeToString(raw),
		"a space behind":                sealed + " ",
		"a line break inside":           sealed[:8] + "\n" + sealed[8:],
		"an id that is absurdly long":   strings.Repeat("A", 1<<20),
		"the longest that is looked at": strings.Repeat("A", MaxSealed),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Open(owner, id)
			require.ErrorIs(t, err, ErrUnknown)
		})
	}
}

func TestAnIDHasOneSpellingOnly(t *testing.T) {
	s := sealer(ringOf(1))
	sealed := seal(t, s, owner, "ab") // 35 bytes: the last character has spare bits
	require.NotZero(t, len(sealed)%4)
	last := sealed[len(sealed)-1]
	spellings := 0
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		if _, err := s.Open(owner, sealed[:len(sealed)-1]+string(c)); err == nil {
			spellings++
			require.Equal(t, rune(last), c)
		}
	}
	require.Equal(t, 1, spellings)
}

func TestUpstreamIDsThatBreakTheProtocolAreNotSealed(t *testing.T) {
	for _, id := range []string{"", "a b", "a\n", "é", "a\x7f", strings.Repeat("x", MaxID+1)} {
		_, err := sealer(ringOf(1)).Seal(owner, id)
		require.ErrorIs(t, err, ErrUpstreamID, "%q", id)
	}
}

func TestWithoutKeysNothingIsSealedOrOpened(t *testing.T) {
	s := sealer(nil)
	_, err := s.Seal(owner, "id")
	require.ErrorIs(t, err, ErrNoKeys)
	_, err = s.Open(owner, "id")
	require.ErrorIs(t, err, ErrNoKeys)

	noCurrent := ringOf(1)
	noCurrent.Current = 7
	_, err = sealer(noCurrent).Seal(owner, "id")
	require.Error(t, err)
}

// FuzzOpenNeverPanics: only sealed ids open. They are constants here, since each fuzzing
// process would seal others.
func FuzzOpenNeverPanics(f *testing.F) {
	const sealed = "AQAAAAEELPne-uOA-6WRBNlrhKzlDRjyEh57CTzDslhRnGg"
	s := sealer(ringOf(1))
	if got, err := s.Open(owner, sealed); err != nil || got != "id" {
		f.Fatalf("the sealed id of this test does not open: %q, %v", got, err)
	}
	f.Add(sealed)
	f.Add("AQAAAAE")
	f.Fuzz(func(t *testing.T, id string) {
		if got, err := s.Open(owner, id); err == nil && (id != sealed || got != "id") {
			t.Fatalf("%q opened", id)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	s := sealer(ringOf(1))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Seal(owner, "550e8400-e29b-41d4-a716-446655440000"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	s := sealer(ringOf(1))
	sealed, err := s.Seal(owner, "550e8400-e29b-41d4-a716-446655440000")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Open(owner, sealed); err != nil {
			b.Fatal(err)
		}
	}
}
