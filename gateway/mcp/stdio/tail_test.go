package stdio

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNoSecretOfAChildIsInTheLog(t *testing.T) {
	l := newTail(Values{Env: map[string]string{"A": "hunter2hunter", "B": "hunter2", "SHORT": "on", "KEY": "first line\nsecond line"}})
	for line, want := range map[string]string{
		"npm error code EACCES":                                         "npm error code EACCES",
		"cannot use hunter2hunter, nor hunter2, on 127.0.0.1":           "cannot use [hidden], nor [hidden], on 127.0.0.1",
		"second line of it":                                             "[hidden] of it",
		`config: {"api_key": "abc", "user": "joe"}`:                     `config: {"api_key": [hidden], "user": "joe"}`,
		"GITHUB_TOKEN=abc def":                                          "GITHUB_TOKEN=[hidden] def",
		"password: x":                                                   "password: [hidden]",
		"Authorization: Bearer abc.def-g":                               "Authorization: [hidden]",
		"got header bearer abcdefgh!":                                   "got header bearer [hidden]!",
		"postgres://joe:pw@db.example.com/x refused":                    "postgres://[hidden]@db.example.com/x refused",
		"bad credentials ghp_abcdefghij":                                "bad credentials [hidden]",
		"hvs.CAESIabcdefghijk is not valid":                             "[hidden] is not valid",
		"mcpt_0123456789abcdef":                                         "[hidden]",
		"key 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b": "key [hidden]",
		"Error: Cannot find module '@modelcontextprotocol/server-filesystem/dist/index.js'": "Error: Cannot find module '@modelcontextprotocol/server-filesystem/dist/index.js'",
		"    at Module._resolveFilename (node:internal/modules/cjs/loader:1225:15)":         "    at Module._resolveFilename (node:internal/modules/cjs/loader:1225:15)",
	} {
		require.Equal(t, want, l.add([]byte(line), false))
	}
	for i := range 1000 {
		l.add([]byte(fmt.Sprint("line ", i, strings.Repeat(" .", 100))), false)
	}
	require.LessOrEqual(t, len(l.text()), maxTailBytes+maxTailLines)
	require.Contains(t, l.text(), "line 999")
	require.NotContains(t, l.text(), "line 900")
}

func TestNoPartOfASecretIsInALineThatWasCut(t *testing.T) {
	const secret = "correct-horse-battery"
	l := newTail(Values{Env: map[string]string{"A": secret}, Secrets: []string{"another one"}})
	for line, test := range map[string]struct {
		cut  bool
		want string
	}{
		"it is correct-horse-battery": {true, "it is [hidden]"},
		"it is correct-horse-batter":  {true, "it is [hidden]"},
		"it is correc":                {true, "it is [hidden]"},
		"correct correct-ho":          {true, "correct [hidden]"},
		"correct-correct-correct":     {true, "correct-correct-[hidden]"},
		"it is another on":            {true, "it is [hidden]"},
		"it is corre":                 {true, "it is corre"},
		"it is correct":               {false, "it is correct"},
		"it is another one":           {false, "it is [hidden]"},
	} {
		require.Equal(t, test.want, l.add([]byte(line), test.cut), line)
	}
}

func TestWhyAChildCannotStartIsInTheLog(t *testing.T) {
	l, log := launcher(t, nil)
	server := scriptedServer(t, "dies")
	server.Env["COMPLAINT"] = "without-my-secret"
	server.Env["GOCOVERDIR"] = t.TempDir() // without one, a child under -cover complains on stderr
	_, r := start(t, l, server)
	require.ErrorContains(t, r.end(t), "exit status 3")
	require.Contains(t, log.String(), "ended by itself")
	require.Contains(t, log.String(), `stderr="I cannot go on [hidden]"`)
	require.NotContains(t, log.String(), "my-secret")
}
