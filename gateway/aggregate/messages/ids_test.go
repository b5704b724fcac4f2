package messages

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIDsOfTheOtherType(t *testing.T) {
	for _, c := range []struct {
		said, asked string
		same        bool
	}{
		{`1`, `1`, true},
		{`"1"`, `1`, true},
		{`1`, `"1"`, true},
		{`1.0`, `1`, true},
		{`"a"`, `"a"`, true},
		{`"a"`, `"b"`, false},
		{`2`, `1`, false},
		{`"2"`, `1`, false},
		{`""`, `0`, false},
		{`"true"`, `true`, false},
		{`"\u0031"`, `1`, true},
	} {
		require.Equal(t, c.same, SameID([]byte(c.said), []byte(c.asked)), c)
	}
}

func TestAnswersOfClientsCannotBeMoreThanAnswers(t *testing.T) {
	for raw, want := range map[string]string{
		`"one__1"`:                  "one 1",
		`"one__\"a b\""`:            `one "a b"`,
		`"one__-1.5e3"`:             "one -1.5e3",
		`"one__1,\"method\":\"x\""`: "",
		`"one__{}"`:                 "",
		`"one__[1]"`:                "",
		`"one__true"`:               "",
		`"one__ 1"`:                 "",
		`"one__1 "`:                 "",
		`"one__"`:                   "",
		`"one__\"a\",\"b\":\"c\""`:  "",
		`1`:                         "",
		`"no separator"`:            "",
	} {
		server, id, ok := SplitID([]byte(raw))
		require.Equal(t, want != "", ok, raw)
		if ok {
			require.Equal(t, want, server+" "+string(id), raw)
		}
	}
}
