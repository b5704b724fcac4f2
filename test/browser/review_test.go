package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/bootstrap/review"
	"vault-plugin-secrets-mcp/test/browser/chromium"
)

// reviewed is a review of so many clients and servers, with each kind of cell.
func reviewed(clients, servers int) *review.Review {
	at := time.Date(2026, time.November, 30, 14, 0, 0, 0, time.UTC)
	s := &review.Snapshot{
		At: at, Cluster: "vault-cluster-1", Mount: "mcp", Clients: map[string]*review.ClientSettings{}, Servers: map[string]*review.ServerSettings{},
		Policies: map[string]policy.Source{"corp": {Name: "corp", Managed: true, Policy: policy.Document{Denied: []policy.Entry{{Kind: policy.ServerName, Text: "server-002"}}}}},
		Usage:    review.Usage{Days: map[string]review.Reported{}, Rows: map[string][]review.Use{}},
	}
	for n := range 31 {
		s.Usage.Days[at.AddDate(0, 0, -n).Format(time.DateOnly)] = review.Reported{Complete: n > 0}
	}
	for n := range servers {
		name := fmt.Sprintf("server-%03d", n)
		s.Servers[name] = &review.ServerSettings{Transport: "http", URL: "https://" + name + ".example.com/mcp", Description: "Issues", Disabled: n == 1}
	}
	for n := range clients {
		c := &review.ClientSettings{CreatedAt: at.AddDate(0, 0, -20*(1+n%3)), Disabled: n == 3}
		for k := range servers {
			if (n+k)%3 == 0 || k == 2 {
				c.AllowedServers = append(c.AllowedServers, fmt.Sprintf("server-%03d", k))
			}
		}
		if n%4 == 1 {
			c.AllowedTools, c.DeniedTools = []string{"*/get_*"}, []string{"*/get_secret"}
		}
		name := fmt.Sprintf("client-%03d", n)
		s.Clients[name] = c
		s.Usage.Rows[name] = []review.Use{{Server: c.AllowedServers[0], Tool: "get_issue", LastUsed: "2026-11-20"}}
	}
	return review.New(s, 30)
}

func TestTheReviewsPageIsReadWithAndWithoutItsScript(t *testing.T) {
	program := chromium.Program(t)
	folder := t.TempDir()
	written := func(name string, r *review.Review) string {
		path := filepath.Join(folder, name)
		file, err := os.Create(path)
		require.NoError(t, err)
		require.NoError(t, review.Write(file, "html", r))
		require.NoError(t, file.Close())
		return path
	}
	small := reviewed(10, 10)
	require.NoError(t, small.Compare(reviewed(9, 9)))
	var findings []string
	run(t, "review.cjs", map[string]any{
		"browser": program, "pictures": os.Getenv("TEST_PICTURES"),
		"small": written("small.html", small), "large": written("large.html", reviewed(500, 100)),
	}, &findings)
	require.Empty(t, findings, strings.Join(findings, "\n"))
}
