package review

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
)

// small is a snapshot of one client that may use two servers, of which it has used one.
func small() *Snapshot {
	return &Snapshot{
		At: at, Cluster: "eu", Mount: "mcp",
		Clients: map[string]*ClientSettings{"editor": {Lists: policy.Lists{AllowedServers: []string{"github", "jira"}}, CreatedAt: at.AddDate(-1, 0, 0)}},
		Servers: map[string]*ServerSettings{
			"github": {Transport: "http", URL: "https://github.example.com/mcp"},
			"jira":   {Transport: "http", URL: "https://jira.example.com/mcp"},
		},
		Usage: Usage{Days: completeDays(90), Rows: map[string][]Use{"editor": {{Server: "github", Tool: "get_issue", LastUsed: "2026-11-29"}}}},
	}
}

func written(t *testing.T, format string, r *Review) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, Write(&b, format, r))
	return b.String()
}

func TestTodayCountsAsUsedAndNotAsCompleteInEachForm(t *testing.T) {
	s := small()
	s.Usage.Rows["editor"][0].LastUsed = "2026-11-30"
	r := New(s, 7)
	text := written(t, "text", r)
	const sentence = "Today, 2026-11-30, counts as used but never as complete, since it is not over."
	require.Contains(t, text, "Use in the 7 days from 2026-11-23 to 2026-11-29, or today: 1 used, 1 unused, 0 not known.\n"+sentence)
	page := written(t, "html", r)
	for _, want := range []string{sentence, "in the last 7 days, or today", "or its role does not exist"} {
		require.Contains(t, page, want)
	}
	require.Contains(t, written(t, "json", r), `"today": "2026-11-30"`)
}

func TestWhereNothingIsAllowedNoDenialIsNamed(t *testing.T) {
	k := &kinds[2]
	require.Equal(t, "none", rulesText([]Limit{{List: k.allowed}, {List: k.denied, Rule: "*/*welcome*"}}, k))
	require.Equal(t, "only a/b but not a/c", rulesText([]Limit{{List: k.allowed, Rule: "a/b"}, {List: k.denied, Rule: "a/c"}}, k))
	require.Equal(t, "all but not a/c", rulesText([]Limit{{List: k.denied, Rule: "a/c"}}, k))
}

func usage(r *Review) map[string]string {
	all := map[string]string{}
	for i := range r.Pairs {
		all[r.Pairs[i].Server] = r.Pairs[i].Usage
	}
	return all
}

func TestARightIsUnusedOnlyWhereEachDayIsComplete(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Snapshot)
		want   string
	}{
		"each day is complete":                      {func(*Snapshot) {}, Unused},
		"a gateway has not reported the first day":  {func(s *Snapshot) { s.Usage.Days["2026-10-31"] = Reported{Why: []string{"lost"}} }, NotKnown},
		"a gateway has not reported the last day":   {func(s *Snapshot) { s.Usage.Days["2026-11-29"] = Reported{} }, NotKnown},
		"the engine says nothing of a day":          {func(s *Snapshot) { delete(s.Usage.Days, "2026-11-15") }, NotKnown},
		"the engine says nothing of any day":        {func(s *Snapshot) { s.Usage.Days = nil }, NotKnown},
		"a day before those that count is missing":  {func(s *Snapshot) { delete(s.Usage.Days, "2026-10-30") }, Unused},
		"today is not complete, as it never is":     {func(s *Snapshot) { s.Usage.Days["2026-11-30"] = Reported{} }, Unused},
		"the client came on the first of the days":  {func(s *Snapshot) { s.Clients["editor"].CreatedAt = at.AddDate(0, 0, -30) }, NotKnown},
		"the client came on the day before them":    {func(s *Snapshot) { s.Clients["editor"].CreatedAt = at.AddDate(0, 0, -31) }, Unused},
		"the last use was on the day before them":   {func(s *Snapshot) { s.Usage.Rows["editor"] = []Use{{"jira", "", "2026-10-30"}} }, Unused},
		"the last use was on the first of the days": {func(s *Snapshot) { s.Usage.Rows["editor"] = []Use{{"jira", "", "2026-10-31"}} }, Used},
		"the last use was today":                    {func(s *Snapshot) { s.Usage.Rows["editor"] = []Use{{"jira", "", "2026-11-30"}} }, Used},
	} {
		s := small()
		c.change(s)
		r := New(s, 30)
		require.Equal(t, c.want, usage(r)["jira"], name)
		if c.want == NotKnown {
			require.Empty(t, r.Commands, name)
			require.NotContains(t, written(t, "text", r), "unused\n", name)
		}
	}
}

func TestTheGapsAreShownWithTheirCauses(t *testing.T) {
	s := small()
	for _, d := range []string{"2026-11-02", "2026-11-03", "2026-11-20"} {
		s.Usage.Days[d] = Reported{Why: []string{"the gateway has not reported"}}
	}
	r := New(s, 30)
	for _, format := range []string{"text", "html"} {
		require.Contains(t, written(t, format, r), "2026-11-02 to 2026-11-03, 2026-11-20: the gateway has not reported", format)
	}
	require.Len(t, r.Coverage.Gaps, 3)
}

func TestCommandsLeaveWhatWasUsed(t *testing.T) {
	old := at.AddDate(-1, 0, 0)
	engineer := policy.Lists{AllowedServers: []string{"github", "jira"}, DeniedTools: []string{"*/delete_*"}, AllowedPrompts: []string{"git*/x"}}
	for name, c := range map[string]struct {
		client ClientSettings
		uses   []Use
		want   string
	}{
		"a server and a tool": {
			ClientSettings{Lists: policy.Lists{AllowedServers: []string{"github", "jira"}}},
			[]Use{{"github", "get_issue", "2026-11-29"}},
			"vault write mcp/clients/editor allowed_servers=github allowed_tools=github/get_issue",
		},
		"every server": {
			ClientSettings{Lists: policy.Lists{AllowedServers: []string{"*"}}},
			[]Use{{"github", "", "2026-11-29"}, {"jira", "", "2026-11-29"}},
			"vault write mcp/clients/editor allowed_servers=github,jira",
		},
		"nothing at all": {
			ClientSettings{Lists: policy.Lists{AllowedServers: []string{"github"}}},
			nil,
			"vault write mcp/clients/editor disabled=true",
		},
		"something that is no listed tool, beside one that is": {
			ClientSettings{Lists: policy.Lists{AllowedServers: []string{"github", "jira"}, AllowedTools: []string{"*/get_*"}}},
			[]Use{{"github", "get_issue", "2026-11-29"}, {"github", "", "2026-11-28"}, {"jira", "get_x", "2026-11-28"}},
			"vault write mcp/clients/editor allowed_tools='github/get_*,jira/get_x'",
		},
		"a tool whose name a rule would read as a pattern": {
			ClientSettings{Lists: policy.Lists{AllowedServers: []string{"github", "jira"}}},
			[]Use{{"github", "get_*", "2026-11-29"}},
			"vault write mcp/clients/editor allowed_servers=github",
		},
		"a tool that is denied meanwhile": {
			ClientSettings{Lists: policy.Lists{AllowedServers: []string{"github"}, DeniedTools: []string{"*/get_b"}}},
			[]Use{{"github", "get_a", "2026-11-29"}, {"github", "get_b", "2026-11-29"}},
			"vault write mcp/clients/editor allowed_tools=github/get_a",
		},
		"a tool with a comma": {
			ClientSettings{Lists: policy.Lists{AllowedServers: []string{"github"}}},
			[]Use{{"github", "it's $(x),y", "2026-11-29"}},
			`printf %s '{"allowed_tools":["github/it'\''s $(x),y"]}' | vault write mcp/clients/editor -`,
		},
		"a server of a role that allows none of its prompts": {
			ClientSettings{Role: "engineer"},
			[]Use{{"jira", "", "2026-11-29"}},
			"vault write mcp/clients/editor role='' allowed_servers=jira denied_tools='*/delete_*' allowed_prompts='' rate_limit=0.5 rate_burst=2",
		},
		"a part of what a role grants": {
			ClientSettings{Role: "engineer", Lists: policy.Lists{AllowedServers: []string{"jira"}}, limit: limit{Rate: 9, Burst: 9}},
			[]Use{{"github", "get_issue", "2026-11-29"}},
			"vault write mcp/clients/editor role='' allowed_servers=github allowed_tools=github/get_issue denied_tools='*/delete_*' allowed_prompts=github/x rate_limit=0.5 rate_burst=2",
		},
	} {
		s := small()
		client := c.client
		client.CreatedAt = old
		s.Clients["editor"], s.Usage.Rows["editor"] = &client, c.uses
		s.Roles = map[string]*RoleSettings{"engineer": {Lists: engineer, limit: limit{Rate: 0.5, Burst: 2}}}
		var commands []string
		for _, command := range New(s, 30).Commands {
			if strings.HasPrefix(command.For, "client") {
				commands = append(commands, command.Shell)
			}
		}
		require.Equal(t, []string{c.want}, commands, name)
	}
}

func TestARoleIsNarrowedToWhatItsClientsUsedTogether(t *testing.T) {
	s := small()
	s.Roles = map[string]*RoleSettings{"engineer": {Lists: policy.Lists{AllowedServers: []string{"*"}, AllowedTools: []string{"*/get_*", "jira/*"}}}}
	s.Clients["editor"] = &ClientSettings{Role: "engineer", CreatedAt: at.AddDate(-1, 0, 0)}
	s.Clients["agent"] = &ClientSettings{Role: "engineer", CreatedAt: at.AddDate(-1, 0, 0)}
	s.Servers["db"] = &ServerSettings{Transport: "stdio", Command: "/bin/db"}
	s.Usage.Rows = map[string][]Use{
		"editor": {{"github", "get_issue", "2026-11-29"}},
		"agent":  {{"github", "get_user", "2026-11-29"}, {"jira", "", "2026-11-02"}},
	}
	command := New(s, 30).Commands[0]
	require.Equal(t, "role engineer", command.For)
	require.Equal(t, "vault write mcp/roles/engineer allowed_servers=github,jira allowed_tools='github/get_issue,github/get_user,jira/*'", command.Shell)

	s.Clients["agent"].CreatedAt = at.AddDate(0, 0, -2)
	for _, c := range New(s, 30).Commands {
		require.NotEqual(t, "role engineer", c.For, "not all is known of one of its clients")
	}
}

func TestACommandIsOneLineForAShell(t *testing.T) {
	const hostile = "it's $(touch x) `id` \"q\" \\ ; | & > ,z"
	shell := writeCommand("mcp/clients/editor", []field{{"allowed_tools", []string{"github/" + hostile}}})
	require.NotContains(t, shell, "\n")
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "vault() { cat; }; "+shell).Output()
	require.NoError(t, err)
	var body struct {
		Tools []string `json:"allowed_tools"`
	}
	require.NoError(t, json.Unmarshal(out, &body))
	require.Equal(t, []string{"github/" + hostile}, body.Tools)
}

func TestASpreadsheetFindsNoFormula(t *testing.T) {
	for text, want := range map[string]string{
		"=1+1": "'=1+1", "+1": "'+1", "-x/y": "'-x/y", "@SUM(A1)": "'@SUM(A1)", "\tx": "'\tx", "\rx": "'\rx", "＝1": "'＝1", "  =1": "'  =1",
		"": "", "github": "github", "only a, b": "only a, b", "*/get": "*/get",
	} {
		require.Equal(t, want, cell(text), text)
	}
	s := small()
	s.Usage.Rows["editor"] = []Use{{"github", "=HYPERLINK(\"http://evil\"),\"x\"", "2026-11-29"}}
	rows, err := csv.NewReader(strings.NewReader(written(t, "csv", New(s, 30)))).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 3)
	require.Equal(t, "'=HYPERLINK(\"http://evil\"),\"x\"", rows[1][len(rows[1])-1])
	for _, row := range rows {
		for _, text := range row {
			require.NotContains(t, "=+-@", text[:min(1, len(text))]+" ", text)
		}
	}
}

func TestAReviewIsReadAsItWasWritten(t *testing.T) {
	r := New(sample(30, 12), 30)
	text := written(t, "json", r)
	again, err := Parse(strings.NewReader(text))
	require.NoError(t, err)
	require.Equal(t, text, written(t, "json", again))
	require.Equal(t, text, written(t, "json", New(sample(30, 12), 30)), "the order is not stable")
	require.NoError(t, r.Compare(again))
	require.True(t, r.Difference.None())
	require.Contains(t, written(t, "text", r), "Nothing has changed.")

	for what, wrong := range map[string]string{
		"not JSON": "CLIENT", "not a review": "{}", "a later schema": `{"schema": 2}`,
	} {
		_, err := Parse(strings.NewReader(wrong))
		require.Error(t, err, what)
	}
	again.Mount = "other"
	require.ErrorContains(t, r.Compare(again), `the mount "other"`)
}

func TestADifferenceHasWhatIsGainedAndLost(t *testing.T) {
	earlier := New(small(), 30)
	s := small()
	s.Clients["editor"].AllowedServers = []string{"github", "db"}
	s.Clients["editor"].DeniedTools = []string{"github/delete_*"}
	s.Clients["agent"] = &ClientSettings{Lists: policy.Lists{AllowedServers: []string{"db"}}}
	s.Servers["db"] = &ServerSettings{Transport: "stdio", Command: "/bin/db"}
	delete(s.Servers, "jira")
	r := New(s, 30)
	require.NoError(t, r.Compare(earlier))
	require.Equal(t, &Difference{
		Since:      at,
		Gained:     []Change{{"agent", "db", "", "allowed"}, {"editor", "db", "", "allowed"}},
		Lost:       []Change{{"editor", "jira", "allowed", ""}},
		Changed:    []Change{{"editor", "github", "everything", "tools: all but not github/delete_*"}},
		NewClients: []string{"agent"}, GoneClients: []string{},
		NewServers: []string{"db"}, GoneServers: []string{"jira"},
	}, r.Difference)
	html := written(t, "html", r)
	for _, want := range []string{"New clients", "Servers that are gone", "other rules"} {
		require.Contains(t, html, want)
	}
}

func TestThePageLoadsNothingAndTakesNoTextForMarkup(t *testing.T) {
	const hostile = `</script><img src=x onerror=alert(1)>"'`
	s := sample(30, 12)
	s.Cluster = hostile
	s.Servers["github"].Description = hostile
	s.Clients["data-cursor"].AllowedTools = []string{"*/" + hostile}
	html := written(t, "html", New(s, 30))
	require.NotContains(t, html, "<img")
	require.Contains(t, html, "&lt;img src=x onerror=alert(1)&gt;")
	for _, loads := range []string{" src=", "href=\"http", "url(", "@import", " style=", " onclick="} {
		require.NotContains(t, strings.ReplaceAll(html, "&lt;img src=x", ""), loads)
	}
	for _, part := range []struct{ directive, from, to string }{{"style-src", "<style>", "</style>"}, {"script-src", "<script>", "</script>"}} {
		_, inside, _ := strings.Cut(html, part.from)
		inside, _, found := strings.Cut(inside, part.to)
		require.True(t, found)
		require.Contains(t, html, part.directive+" '"+digestOf(inside)+"'", "the browser would not run what is in the page")
	}
	require.Equal(t, 1, strings.Count(html, "<script"))
}

func TestEveryCellOfTheMatrixHasAWord(t *testing.T) {
	r := New(sample(60, 12), 30)
	html := written(t, "html", r)
	for _, word := range []string{">all, used", ">all, unused", ">all, use not known", ">part, used", ">denied", ">no", ">off"} {
		require.Contains(t, html, word)
	}
	require.Equal(t, 60*12, strings.Count(html, `<td class="a`)+strings.Count(html, `<td class="s"`)+strings.Count(html, `<td class="s `)+
		strings.Count(html, `<td class="x"`)+strings.Count(html, `<td class="n"`)+strings.Count(html, `<td class="o"`))
}

func TestRolesAreSourcesOfRights(t *testing.T) {
	s := small()
	s.Roles = map[string]*RoleSettings{"engineer": {Lists: policy.Lists{AllowedServers: []string{"jira"}, AllowedTools: []string{"jira/get_*"}, DeniedTools: []string{"github/delete_*"}}}}
	s.Clients["editor"] = &ClientSettings{Role: "engineer", Lists: policy.Lists{AllowedServers: []string{"github"}, AllowedTools: []string{"github/*"}}}
	r := New(s, 30)
	require.True(t, r.Pairs[0].Allowed)
	require.Equal(t, []Limit{{"denied_tools", "github/delete_*", "engineer"}}, r.Pairs[0].Limits)
	require.True(t, r.Pairs[1].Allowed)
	require.Equal(t, []Limit{{"allowed_tools", "jira/get_*", "engineer"}}, r.Pairs[1].Limits)
	require.Equal(t, []Role{{"engineer", 1, []string{"jira"}}}, r.Roles)

	s.Clients["editor"].Role = "gone"
	for _, p := range New(s, 30).Pairs {
		require.False(t, p.Allowed, "a client with a role that does not exist reaches nothing")
	}
}
