package apply

import (
	"strings"
	"testing"
)

func TestVariablesAreExpandedFromTheAdministratorsEnvironment(t *testing.T) {
	t.Setenv("UPSTREAM_TOKEN", "s3cret")
	t.Setenv("EMPTY", "")
	t.Setenv("NESTED", "${UPSTREAM_TOKEN}")
	for text, want := range map[string]string{
		"plain": "plain", "Bearer ${UPSTREAM_TOKEN}": "Bearer s3cret", "${env:UPSTREAM_TOKEN}": "s3cret",
		"${NOT_SET_HERE:-none}": "none", "${UPSTREAM_TOKEN:-none}": "s3cret", "${EMPTY:-none}": "", "${NOT_SET_HERE:-}": "",
		"${NESTED}": "${UPSTREAM_TOKEN}", "$UPSTREAM_TOKEN": "$UPSTREAM_TOKEN", "${input:token}": "${input:token}",
	} {
		x := &expander{}
		if got := x.expand("url", text); got != want || x.failure() != nil {
			t.Errorf("%q became %q (%v), not %q", text, got, x.failure(), want)
		}
	}
	x := &expander{}
	x.expand("url", "${NOT_SET_HERE}")
	if err := x.failure(); err == nil || !strings.Contains(err.Error(), "NOT_SET_HERE") {
		t.Error(err)
	}
}

// A variable that nothing expands is refused with its place, before anything is written.
func TestVariablesThatStayAreRefused(t *testing.T) {
	for _, content := range []string{
		`{"name": "s", "transport": "http", "url": "http://h.example/", "headers": {"Authorization": "Bearer ${input:token}"}}`,
		`{"name": "s", "transport": "stdio", "command": "x", "env": {"TOKEN": "${input:token}"}}`,
	} {
		d := &desired{config: map[string]any{}}
		d.loadJSON("s.json", []byte(content))
		d.check()
		if err := d.failure(nil); err == nil || !strings.Contains(err.Error(), "s.json") || !strings.Contains(err.Error(), "not expanded") {
			t.Error(err)
		}
	}
}

func TestANearMissInManagedSettingsIsAMistake(t *testing.T) {
	d := &desired{config: map[string]any{}}
	d.loadJSON("corp.json", []byte(`{"allowedMcpServers": [], "deniedMcpServer": [{"serverName": "x"}]}`))
	if err := d.failure(nil); err == nil || !strings.Contains(err.Error(), `"deniedMcpServer"`) {
		t.Error(err)
	}
}
