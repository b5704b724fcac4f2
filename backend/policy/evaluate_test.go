package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

var (
	github = Server{Name: "github", URL: "https://api.github.com/mcp"}
	files  = Server{Name: "files", Stdio: true, Command: "npx", Args: []string{"-y", "files"}}
)

func managed(t testing.TB, name, text string) Source {
	t.Helper()
	return Source{Name: name, Managed: true, Policy: mustParse(t, text)}
}

func bound(t testing.TB, name, text string) Source {
	t.Helper()
	return Source{Name: name, Policy: mustParse(t, text)}
}

func TestMerge(t *testing.T) {
	const (
		any1     = `{"deniedMcpServers":[]}`
		allowGit = `{"allowedMcpServers":[{"serverUrl":"https://api.github.com/*"}]}`
		allowFil = `{"allowedMcpServers":[{"serverCommand":["npx","-y","files"]}]}`
		denyGit  = `{"deniedMcpServers":[{"serverName":"github"}]}`
		none     = `{"allowedMcpServers":[]}`
		lock     = `{"allowManagedMcpServersOnly":true}`
		lockFil  = `{"allowManagedMcpServersOnly":true,"allowedMcpServers":[{"serverCommand":["npx","-y","files"]}]}`
		nameGit  = `{"allowedMcpServers":[{"serverName":"github"}]}`
	)
	tests := []struct {
		name          string
		sources       []Source
		github, files string
	}{
		{"no source allows all", nil, Allowed, Allowed},
		{"a source without an allow-list allows all", []Source{bound(t, "a", any1)}, Allowed, Allowed},
		{"an empty allow-list allows none", []Source{bound(t, "a", none)}, BlockedAllow, BlockedAllow},
		{"an allow-list limits all servers", []Source{managed(t, "a", allowGit)}, Allowed, BlockedAllow},
		{"allow-lists are joined", []Source{managed(t, "a", allowGit), bound(t, "b", allowFil)}, Allowed, Allowed},
		{"an empty list takes nothing from another", []Source{managed(t, "a", allowGit), managed(t, "b", none)}, Allowed, BlockedAllow},
		{"a denial of any source is final", []Source{managed(t, "a", allowGit), bound(t, "b", denyGit)}, BlockedDeny, BlockedAllow},
		{"a lock leaves out lists that are not managed", []Source{managed(t, "a", lockFil), bound(t, "b", allowGit)}, BlockedAllow, Allowed},
		{"a lock of one managed source is one for all", []Source{managed(t, "a", lock), managed(t, "b", allowFil), bound(t, "c", allowGit)}, BlockedAllow, Allowed},
		{"a lock does not leave out denials", []Source{managed(t, "a", lockFil), bound(t, "b", denyGit)}, BlockedDeny, Allowed},
		{"a lock without a managed list allows all", []Source{managed(t, "a", lock), bound(t, "b", none)}, Allowed, Allowed},
		{"a lock that is not managed has no effect", []Source{managed(t, "a", allowGit), bound(t, "b", lockFil)}, Allowed, Allowed},
		{"a URL entry of another source switches names off", []Source{managed(t, "a", nameGit), bound(t, "b", `{"allowedMcpServers":[{"serverUrl":"https://x.com"}]}`)}, BlockedAllow, BlockedAllow},
		{"a missing policy blocks everything", []Source{managed(t, "a", any1), {Name: "gone", Missing: true}}, BlockedAllow, BlockedAllow},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := Compile(test.sources)
			if d := p.Evaluate(&github); d.Decision != test.github {
				t.Errorf("github: %s (%s), want %s", d.Decision, d.Reason, test.github)
			}
			if d := p.Evaluate(&files); d.Decision != test.files {
				t.Errorf("files: %s (%s), want %s", d.Decision, d.Reason, test.files)
			}
		})
	}
}

func TestReasonsCanBeActedOn(t *testing.T) {
	tests := []struct {
		name           string
		sources        []Source
		server         Server
		decision       string
		reason         []string
		entry, bySouce string
	}{
		{"no policy", nil, github, Allowed, []string{`"github" is allowed`, "no policy sets allowedMcpServers"}, "", ""},
		{
			"denied by URL",
			[]Source{managed(t, "corp", `{"deniedMcpServers":[{"serverUrl":"https://*.github.com"}]}`)},
			github, BlockedDeny,
			[]string{`its URL https://api.github.com/mcp matches {"serverUrl":"https://*.github.com"} in deniedMcpServers of policy "corp"`, "take the entry out"},
			`{"serverUrl":"https://*.github.com"}`, "corp",
		},
		{
			"denied by command",
			[]Source{managed(t, "corp", `{"deniedMcpServers":[{"serverCommand":["npx","-y","files"]}]}`)},
			files, BlockedDeny,
			[]string{"its command matches"},
			`{"serverCommand":["npx","-y","files"]}`, "corp",
		},
		{
			"denied by name",
			[]Source{bound(t, "team", `{"deniedMcpServers":[{"serverName":"files"}]}`)},
			files, BlockedDeny,
			[]string{"its name matches"},
			`{"serverName":"files"}`, "team",
		},
		{
			"allowed by URL",
			[]Source{managed(t, "corp", `{"allowedMcpServers":[{"serverUrl":"*"}]}`)},
			github, Allowed,
			[]string{`matches {"serverUrl":"*"} in allowedMcpServers of policy "corp"`},
			`{"serverUrl":"*"}`, "corp",
		},
		{
			"an empty list",
			[]Source{managed(t, "corp", `{"allowedMcpServers":[]}`)},
			files, BlockedAllow,
			[]string{"allowedMcpServers of corp is empty", `Add {"serverName":"files"}`},
			"", "",
		},
		{
			"not allowed by URL",
			[]Source{managed(t, "corp", `{"allowedMcpServers":[{"serverUrl":"https://x.com"}]}`)},
			github, BlockedAllow,
			[]string{"its URL https://api.github.com/mcp matches no serverUrl entry", `Add {"serverUrl":"https://api.github.com/mcp"}`},
			"", "",
		},
		{
			"not allowed by command",
			[]Source{managed(t, "corp", `{"allowedMcpServers":[{"serverCommand":["x"]}]}`)},
			files, BlockedAllow,
			[]string{"matches no serverCommand entry", `Add {"serverCommand":["npx","-y","files"]}`},
			"", "",
		},
		{
			"a name that does not count",
			[]Source{managed(t, "corp", `{"allowedMcpServers":[{"serverUrl":"h.com"},{"serverName":"github"}]}`)},
			github, BlockedAllow,
			[]string{`{"serverName":"github"} of policy "corp" does not count`, "by serverUrl only"},
			"", "",
		},
		{
			"lists left out by a lock",
			[]Source{
				managed(t, "corp", `{"allowManagedMcpServersOnly":true,"allowedMcpServers":[]}`),
				bound(t, "team", `{"allowedMcpServers":[{"serverName":"github"}]}`),
			},
			github, BlockedAllow,
			[]string{`The lists of team do not count, since policy "corp" has allowManagedMcpServersOnly`},
			"", "",
		},
		{
			"a lock that allows all",
			[]Source{managed(t, "corp", `{"allowManagedMcpServersOnly":true}`), bound(t, "team", `{"allowedMcpServers":[]}`)},
			github, Allowed,
			[]string{"no managed policy sets allowedMcpServers", "the lists of team do not count"},
			"", "",
		},
		{
			"a lock alone",
			[]Source{managed(t, "corp", `{"allowManagedMcpServersOnly":true}`)},
			github, Allowed,
			[]string{`no managed policy sets allowedMcpServers (policy "corp" has allowManagedMcpServersOnly)`},
			"", "",
		},
		{
			"a query is not shown",
			[]Source{managed(t, "corp", `{"allowedMcpServers":[{"serverUrl":"https://x.com"}]}`)},
			Server{Name: "s", URL: "https://h.com/mcp?key=secret"},
			BlockedAllow,
			[]string{"https://h.com/mcp?… matches no", `Add {"serverUrl":"https://h.com/mcp?*"}`},
			"", "",
		},
		{
			"a URL that is none",
			[]Source{managed(t, "corp", `{"allowedMcpServers":[{"serverUrl":"https://x.com"}]}`)},
			Server{Name: "s", URL: "secret"},
			BlockedAllow,
			[]string{"its URL matches no serverUrl entry", "correct its registration"},
			"", "",
		},
		{"a missing policy", []Source{{Name: "gone", Missing: true}}, github, BlockedAllow, []string{"no policy named gone any more", "create it again"}, "", "gone"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := Compile(test.sources).Evaluate(&test.server)
			if d.Decision != test.decision || d.Entry != test.entry || d.Source != test.bySouce {
				t.Errorf("%+v, want %s by %s of %s", d, test.decision, test.entry, test.bySouce)
			}
			for _, part := range test.reason {
				if !strings.Contains(d.Reason, part) {
					t.Errorf("reason %q does not say %q", d.Reason, part)
				}
			}
			if text := fmt.Sprint(d); strings.Contains(text, "secret") {
				t.Errorf("the query is shown: %s", text)
			}
		})
	}
}

func TestEntryThatTheReasonAsksForAdmits(t *testing.T) {
	for _, kind := range []string{`{"serverUrl":""},{"serverCommand":[""]}`, ``} {
		for _, server := range []Server{
			github, files,
			{Name: "root", URL: "https://h.com/"},
			{Name: "query", URL: "https://h.com/?k=v"},
			{Name: "port", URL: "http://[::1]:9001/a/?x"},
		} {
			text := `{"allowedMcpServers":[` + kind + `]}`
			d := Compile([]Source{managed(t, "corp", text)}).Evaluate(&server)
			_, entry, _ := strings.Cut(d.Reason, "Add ")
			entry, _, found := strings.Cut(entry, " to allow it")
			if !found {
				t.Fatalf("%s: reason %q asks for no entry", server.Name, d.Reason)
			}
			if kind != "" {
				entry = kind + "," + entry
			}
			if d := Compile([]Source{managed(t, "corp", `{"allowedMcpServers":[`+entry+`]}`)}).Evaluate(&server); !d.Allowed {
				t.Errorf("%s: %s does not admit it: %s", server.Name, entry, d.Reason)
			}
		}
	}
}

func TestDecideChecksInOrder(t *testing.T) {
	deny := Compile([]Source{managed(t, "corp", `{"deniedMcpServers":[{"serverName":"github"}]}`)})
	tests := []struct {
		name     string
		decision Decision
		want     string
		results  string
	}{
		{"an unknown server", Unknown("x"), UnknownServer, "blocked skipped skipped skipped skipped"},
		{"a client without servers", Decide("c", own(), deny, &github), NotInAllowedServers, "passed blocked skipped skipped skipped"},
		{"a client with other servers", Decide("c", own("files", "GitHub"), deny, &github), NotInAllowedServers, "passed blocked skipped skipped skipped"},
		{"a policy that is not there", Decide("c", own("*"), nil, &github), BlockedAllow, "passed passed blocked skipped skipped"},
		{"a denied server", Decide("c", own("github"), deny, &github), BlockedDeny, "passed passed passed blocked skipped"},
		{"a server not allowed", Decide("c", own("*"), Compile([]Source{managed(t, "corp", `{"allowedMcpServers":[]}`)}), &github), BlockedAllow, "passed passed passed passed blocked"},
		{"an allowed server", Decide("c", own("*"), deny, &files), Allowed, "passed passed passed passed passed"},
	}
	order := []string{CheckServer, CheckAllowedServers, CheckPolicies, CheckDenied, CheckAllowed}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := test.decision
			if d.Decision != test.want || d.Allowed != (d.Decision == Allowed) {
				t.Errorf("decision %+v, want %s", d, test.want)
			}
			var results []string
			for i, check := range d.Checks {
				if i >= len(order) || check.Check != order[i] || check.Detail == "" {
					t.Fatalf("check %d is %+v", i, check)
				}
				results = append(results, check.Result)
			}
			if got := strings.Join(results, " "); got != test.results {
				t.Errorf("results %s, want %s", got, test.results)
			}
		})
	}
	names := make([]string, 50)
	for i := range names {
		names[i] = fmt.Sprint("s", i)
	}
	if d := Decide("c", own(names...), deny, &github); !strings.Contains(d.Reason, "s9 and 40 more. Add") {
		t.Errorf("a long list is told as %q", d.Reason)
	}
}

func TestDecisionHasTheFieldsOfTheAPI(t *testing.T) {
	deny := Compile([]Source{managed(t, "corp", `{"deniedMcpServers":[{"serverName":"github"}]}`)})
	text, err := json.Marshal(deny.Evaluate(&github))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"allowed", "decision", "reason", "entry", "source", "checks"} {
		if !strings.Contains(string(text), `"`+key+`":`) {
			t.Errorf("%s has no %q", text, key)
		}
	}
}

func TestWarnings(t *testing.T) {
	lock := `{"allowManagedMcpServersOnly":true}`
	tests := []struct {
		name    string
		sources []Source
		want    []string
	}{
		{"none for no policy", nil, nil},
		{"none for a lock with a managed list", []Source{managed(t, "a", lock), managed(t, "b", `{"allowedMcpServers":[]}`)}, nil},
		{"a lock without a managed list", []Source{managed(t, "a", lock), bound(t, "b", `{"allowedMcpServers":[]}`)}, []string{"every server is allowed"}},
		{"a lock that is not managed", []Source{bound(t, "b", lock)}, []string{"has no effect"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			warnings := Compile(test.sources).Warnings()
			if len(warnings) != len(test.want) {
				t.Fatalf("%q, want %q", warnings, test.want)
			}
			for i := range warnings {
				if !strings.Contains(warnings[i], test.want[i]) {
					t.Errorf("%q does not say %q", warnings[i], test.want[i])
				}
			}
		})
	}
}

// own are the rights of a client without a role.
func own(servers ...string) []Rights { return []Rights{{Lists: Lists{AllowedServers: servers}}} }
