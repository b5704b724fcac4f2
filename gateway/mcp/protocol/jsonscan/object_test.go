package jsonscan

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestObjectsThatCouldBeReadInTwoWays(t *testing.T) {
	keys := []string{"name", "resourceKinds"}
	for text, has := range map[string]string{
		`{}`:                               "",
		`{"name":1,"x":2,"x":3}`:           "",
		`{"n\u0061me":1}`:                  "",
		`{"names":1,"nam":2,"":3}`:         "",
		`{"name":1,"n\u0061me":2}`:         "a key twice",
		`{"Name":1}`:                       `a key that resembles "name"`,
		`{" name":1}`:                      `a key that resembles "name"`,
		`{"\u00a0NAME\u2003":1}`:           `a key that resembles "name"`,
		`{"re\u017fource\u212ainds":1}`:    `a key that resembles "resourceKinds"`,
		`{"name\u0000x":1}`:                "a key with a control character",
		`{"name\n":1}`:                     "a key with a control character",
		`{"x\u007f":1}`:                    "a key with a control character",
		`{"\ud800":1}`:                     "a key with half a surrogate pair",
		`{"name":{"Name":1,"\u0000":2}}`:   "",
		`{"Name":1,"name":1,"name\t":2}`:   `a key that resembles "name"`,
		`{"name":1,"name":1,"\ud800":"2"}`: "a key twice",
	} {
		err := membersOf(t, text, keys)
		if has == "" {
			require.NoError(t, err, text)
			continue
		}
		var ambiguous *AmbiguousError
		require.ErrorAs(t, err, &ambiguous, text)
		require.ErrorIs(t, err, ErrAmbiguous)
		require.Equal(t, has, ambiguous.Has, text)
	}
}

func TestAnObjectWithoutGuardedKeysIsTheSendersAffair(t *testing.T) {
	require.NoError(t, membersOf(t, `{"name":1,"name":2,"a\u0000":3}`, nil))
	require.ErrorIs(t, membersOf(t, `{"\ud800":1}`, nil), ErrAmbiguous)
}

func membersOf(t *testing.T, text string, keys []string) error {
	t.Helper()
	s, err := New([]byte(text))
	require.NoError(t, err)
	if err := s.Members(keys, func(int) error { return s.Skip() }); err != nil {
		return err
	}
	return s.End()
}

func TestReplacePutsPartsInOrder(t *testing.T) {
	text := []byte("0123456789")
	for want, parts := range map[string][]Part{
		"0123456789":   {{Text: []byte("never")}},
		"ab23c456d89":  {{Span{7, 8}, []byte("d")}, {Span{4, 4}, []byte("c")}, {Span{}, nil}, {Span{0, 2}, []byte("ab")}},
		"01xy23456789": {{Span{2, 2}, []byte("x")}, {Span{2, 2}, []byte("y")}},
		"01x456789":    {{Span{2, 2}, []byte("x")}, {Span{2, 4}, nil}},
		"":             {{Span{0, 10}, nil}},
	} {
		require.Equal(t, want, string(Replace(nil, text, parts...)))
	}
}
