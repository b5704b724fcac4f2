package main

import (
	"strings"
	"testing"
)

func TestArguments(t *testing.T) {
	for _, test := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"none: the usage", nil, 2, "Usage: mcp-bootstrap"},
		{"an unknown command is named", []string{"devv"}, 2, `there is no command "devv"`},
		{"a failure is told", []string{"dev", "-vault-binary", "/no/vault"}, 1, "mcp-bootstrap: cannot run Vault"},
		{"an unknown flag", []string{"dev", "-x"}, 2, ""},
		{"an argument too many", []string{"dev", "x"}, 2, ""},
		{"an unknown demo", []string{"demo", "x"}, 2, ""},
		{"an address in use or wrong", []string{"demo", "calculator", "-address", "nowhere"}, 1, "cannot listen"},
		{"help is no mistake", []string{"dev", "-help"}, 0, ""},
		{"the version", []string{"version"}, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stderr strings.Builder
			if got := run(t.Context(), test.args, &stderr); got != test.status {
				t.Errorf("status %d, want %d", got, test.status)
			}
			if !strings.Contains(stderr.String(), test.want) {
				t.Errorf("%q is missing in %q", test.want, stderr.String())
			}
		})
	}
}
