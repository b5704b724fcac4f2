package pin

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKindsAndModesAreReadStrictly(t *testing.T) {
	for _, kind := range Kinds() {
		got, err := ParseKind(string(kind))
		require.NoError(t, err)
		require.Equal(t, kind, got)
	}
	_, err := ParseKind("tools")
	require.EqualError(t, err, `"tools" is not a valid kind: it is tool, prompt, resource, template, instructions, server or page`)

	for _, mode := range Modes() {
		got, err := ParseMode(string(mode))
		require.NoError(t, err)
		require.Equal(t, mode, got)
	}
	got, err := ParseMode("")
	require.NoError(t, err)
	require.Equal(t, Off, got)
	_, err = ParseMode("Enforce")
	require.EqualError(t, err, `"Enforce" is not a valid mode of pins: it is off, observe or enforce`)
	require.False(t, Mode("").Active())
	require.True(t, Observe.Active() && Enforce.Active())
}

func TestDigestsAreReadInOneSpelling(t *testing.T) {
	d := mustRead(t, Instructions, `"x"`).Digest
	got, err := ParseDigest(d.String())
	require.NoError(t, err)
	require.Equal(t, d, got)
	for _, wrong := range []string{
		"", d.String()[len("sha256:"):], d.String() + "0", d.String()[:70], "SHA256:" + d.String()[7:],
		"sha256:" + "AB" + d.String()[9:], "sha256:" + "zz" + d.String()[9:],
	} {
		_, err := ParseDigest(wrong)
		require.ErrorContains(t, err, "is not a valid digest", "%q", wrong)
		require.Error(t, new(Digest).UnmarshalText([]byte(wrong)))
	}
}

// mustRead reads a definition that is good.
func mustRead(t testing.TB, kind Kind, raw string) *Definition {
	t.Helper()
	d, err := Read(kind, []byte(raw))
	require.NoError(t, err, raw)
	require.Equal(t, kind, d.Kind)
	return d
}
