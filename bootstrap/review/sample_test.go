package review

import (
	"fmt"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
)

// at is when the reviews of these tests are made.
var at = time.Date(2026, time.November, 30, 14, 5, 0, 0, time.UTC)

// names make a sample look like a company's.
var (
	teams    = []string{"search", "payments", "platform", "data", "mobile", "security", "support", "growth", "legal", "design"}
	programs = []string{"cursor", "claude", "agent-ci", "vscode", "codex"}
	services = []string{"github", "jira", "postgres", "grafana", "slack", "confluence", "sentry", "kubernetes", "snowflake", "figma"}
)

// sample is a snapshot of so many clients and servers, the same each time.
func sample(clients, servers int) *Snapshot {
	s := &Snapshot{
		At: at, Cluster: "vault-cluster-eu-1", Mount: "mcp",
		Clients: map[string]*ClientSettings{}, Roles: map[string]*RoleSettings{}, Servers: map[string]*ServerSettings{},
		Policies: map[string]policy.Source{}, Asked: map[Question]policy.Decision{},
		Usage: Usage{Days: completeDays(90), Rows: map[string][]Use{}},
	}
	var names []string
	for n := range servers {
		name := services[n%len(services)]
		if n >= len(services) {
			name += fmt.Sprintf("-%s", teams[n/len(services)%len(teams)])
		}
		names = append(names, name)
		s.Servers[name] = &ServerSettings{Transport: "http", URL: "https://" + name + ".example.com/mcp", Description: "The " + name + " of the company"}
	}
	s.Servers[names[servers-1]].Disabled = servers > 5
	s.Policies["corp"] = policy.Source{Name: "corp", Managed: true, Policy: policy.Document{Denied: []policy.Entry{{Kind: policy.ServerName, Text: names[servers/2]}}}}
	s.Roles["engineer"] = &RoleSettings{Lists: policy.Lists{
		AllowedServers: names[:min(4, servers)], DeniedTools: []string{"*/delete_*"}, AllowedPrompts: []string{"github/review_*"},
	}}
	for n := range clients {
		name := fmt.Sprintf("%s-%s", teams[n%len(teams)], programs[n/len(teams)%len(programs)])
		if n >= len(teams)*len(programs) {
			name += fmt.Sprintf("-%d", n/(len(teams)*len(programs))+1)
		}
		c := &ClientSettings{CreatedAt: at.AddDate(-1, 0, 0), Disabled: n%17 == 16}
		for k := range servers {
			if (n*7+k*k*3+k)%9 == 0 || (n+k)%13 == 0 {
				c.AllowedServers = append(c.AllowedServers, names[k])
			}
		}
		switch n % 10 {
		case 2, 6:
			c.Role = "engineer"
		case 3:
			c.AllowedTools = []string{"*/get_*", "*/list_*"}
		case 5:
			c.AllowedServers = append(c.AllowedServers, "retired")
		case 7:
			c.CreatedAt = at.AddDate(0, 0, -3)
		}
		if n%50 == 49 {
			c.AllowedServers = []string{"*"}
		}
		s.Clients[name] = c
		for k, server := range c.AllowedServers {
			if k%3 != n%3 && s.Servers[server] != nil {
				last := at.AddDate(0, 0, -(n+k*5)%70).Format(day)
				c.LastUsed = max(c.LastUsed, last)
				s.Usage.Rows[name] = append(s.Usage.Rows[name],
					Use{Server: server, Tool: "get_issue", LastUsed: last}, Use{Server: server, Tool: "list_things", LastUsed: last})
			}
		}
	}
	return s
}

// completeDays are so many days before at, of which all is known.
func completeDays(n int) map[string]Reported {
	days := map[string]Reported{}
	for i := 1; i <= n; i++ {
		days[at.AddDate(0, 0, -i).Format(day)] = Reported{Complete: true}
	}
	return days
}
