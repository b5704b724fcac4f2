package backend

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAWriteWarnsOfAListThatNarrowsNothing(t *testing.T) {
	e := newEnv(t)
	for _, name := range []string{"github", "b", "c", "d"} {
		e.write("servers/"+name, data{"transport": "http", "url": "https://h.example/" + name})
	}
	e.write("roles/engineer", data{"allowed_servers": "github"})
	e.client("narrow", data{"allowed_servers": "github", "allowed_tools": "github/list_*"})
	const engineer = `role "engineer" allows every tool of github: the client's allowed_tools has no effect there`
	require.Contains(t, e.write("clients/narrow", data{"role": "engineer"}).Warnings, engineer)
	require.Contains(t, e.write("clients/narrow", data{"allowed_tools": "github/get_*"}).Warnings, engineer)

	e.write("roles/limited", data{"allowed_servers": "github,b,c,d", "allowed_tools": "github/list_*"})
	require.Contains(t, e.write("clients/open", data{"allowed_servers": "*", "role": "limited"}).Warnings,
		`the client allows every tool of github, b, c and 1 more: allowed_tools of role "limited" has no effect there`)
	require.Empty(t, e.write("clients/narrow", data{"role": "limited"}).Warnings, "both lists are set: they add up")

	require.Equal(t, []string{`role "limited" allows every tool of github: allowed_tools of the client narrow has no effect there`},
		e.patch("roles/limited", data{"allowed_tools": nil}).Warnings)
	require.Empty(t, e.patch("roles/limited", data{"allowed_tools": []string{"*/list_*"}}).Warnings, "both lists are set again")
}
