package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/test/harness"
)

// suites are those of the runners that apply to servers.
var suites = map[string]struct {
	args      func(tools) []string
	stateless bool // of the era without sessions
}{
	"everything that the runner of 2025 has": {
		args: func(x tools) []string { return []string{x.old, "server", "--suite", "all"} },
	},
	"the requirements of 2025-11-25": {
		args: func(x tools) []string { return []string{x.current, "server", "--requirements", "2025-11-25"} },
	},
	"the requirements of 2026-07-28": {
		args:      func(x tools) []string { return []string{x.current, "server", "--requirements", "2026-07-28"} },
		stateless: true,
	},
}

// onStdio lists the checks that a server on stdio cannot end as the same server over
// HTTP does, and why.
var onStdio = map[string]string{
	// The bridge answers in JSON where there is nothing to stream, and may.
	"server-sse-streams-functional": "whether an answer streams is the HTTP server's choice, and here that is the bridge",
	// The fixture closes its stream in the middle of an answer, to have the
	// client come back for the rest. There are no streams on stdio to close.
	"server-sse-content-type":      noStreams,
	"server-sse-disconnect-resume": noStreams,
	"server-sse-priming-event":     noStreams,
	"server-sse-retry-field":       noStreams,
	"stream-closed":                noStreams,
	// Which headers repeat which arguments is written in the tool's schema, which
	// the bridge does not read.
	"sep-2243-server-reject-invalid-param-chars": noHeaders,
	"sep-2243-server-reject-param-mismatch":      noHeaders,
	"sep-2243-server-validate-param-match":       noHeaders,
}

const (
	noStreams = "the closing of streams is a tool of HTTP servers"
	noHeaders = "on stdio there are no headers that the server could compare"
)

// asOneOfMany lists the checks that end otherwise at the endpoint that merges all of
// a client's servers, with one behind it, and why.
var asOneOfMany = map[string]string{
	"server-sse-streams-functional": "merged lists are answered in JSON, as a server may; the check counts streams",
	"server-sse-retry-field":        "a stream that the gateway ends says when to come back for the rest, which the fixture leaves out: the check warns there, and passes here",
}

// withoutTasks lists the checks that the fixture fails, since it has no tasks, and that pass
// through the gateway, and why. TestTasksAreCarried has a server with tasks.
var withoutTasks = map[string]string{
	"sep-2663-tasks-methods-non-declaring":     nobodysTask,
	"sep-2663-tasks-get-invalid-task-id-32602": nobodysTask,
}

const nobodysTask = "an id that is none of the client's tasks is refused before a server hears of it, whether that knows tasks or not"

func TestTheGatewayMakesNoDifference(t *testing.T) {
	h := harness.New(t)
	x := install(t, h)
	stateful := fixture(t, h, x, "stateful", "-stateless=false")
	stateless := fixture(t, h, x, "stateless", "-stateless=true")
	for name, url := range map[string]string{"stateful": stateful, "stateless": stateless} {
		h.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": url})
	}
	h.Write("mcp/servers/child", harness.Map{"transport": "stdio", "command": x.server})
	front := newFront(t)
	gateway := h.StartGateway(harness.GatewayOptions{Blocks: map[string]string{
		"stdio": fmt.Sprintf("allowed_commands = [%q]\n", x.server),
		// A check sends the Origin of a page that the server itself would serve.
		"listener": fmt.Sprintf("allowed_origins = [%q]\n", front.URL),
	}})
	tokens := map[string]string{}
	for _, name := range []string{"stateful", "stateless", "child"} {
		tokens[name] = h.CreateClient("suite-"+name, harness.Map{"allowed_servers": name})
		// The runners do not ask again where Vault is slow with its first answer.
		h.Post(gateway.ServerURL(name), tokens[name], `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
	}

	var stdio, merged seen
	for name, suite := range suites {
		server, direct := "stateful", stateful
		if suite.stateless {
			server, direct = "stateless", stateless
		}
		want := checks(t, x, suite.args(x), direct)
		if len(want) < 30 {
			t.Fatalf("%s: only %d scenarios ran against the server itself", name, len(want))
		}
		through := func(t *testing.T, server, url string, names *names) results {
			t.Helper()
			return checks(t, x, suite.args(x), front.to(t, url, tokens[server], names))
		}
		t.Run(name+", over HTTP", func(t *testing.T) {
			compare(t, want, through(t, server, gateway.ServerURL(server), nil), withoutTasks)
		})
		t.Run(name+", on stdio", func(t *testing.T) {
			stdio.add(compare(t, want, through(t, "child", gateway.ServerURL("child"), nil), with(onStdio, withoutTasks)))
		})
		t.Run(name+", as one of many servers", func(t *testing.T) {
			merged.add(compare(t, want, through(t, server, gateway.URL+"/mcp", namesOf(server)), with(asOneOfMany, withoutTasks)))
		})
		t.Run(name+", on stdio and as one of many servers", func(t *testing.T) {
			compare(t, want, through(t, "child", gateway.URL+"/mcp", namesOf("child")), with(onStdio, asOneOfMany, withoutTasks))
		})
	}
	t.Run("what is known to differ does", func(t *testing.T) {
		stdio.all(t, onStdio)
		merged.all(t, asOneOfMany)
	})
}

// with returns what all of the lists have.
func with(lists ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, list := range lists {
		maps.Copy(all, list)
	}
	return all
}

// seen is which of the known differences there were, and in how many suites they were
// looked for.
type seen struct {
	suites int
	checks map[string]bool
}

func (s *seen) add(checks map[string]bool) {
	if s.checks == nil {
		s.checks = map[string]bool{}
	}
	s.suites++
	maps.Copy(s.checks, checks)
}

// all fails the test where a difference is known that no suite has met. Where not
// every suite has run, which -run may ask for, nobody can tell.
func (s *seen) all(t *testing.T, known map[string]string) {
	t.Helper()
	if s.suites < len(suites) {
		t.Logf("%d of %d suites have run", s.suites, len(suites))
		return
	}
	for _, check := range slices.Sorted(maps.Keys(known)) {
		if !s.checks[check] {
			t.Errorf("%s ends alike in every suite: it is not a difference any more", check)
		}
	}
}

// fixture starts the SDK's server over HTTP, and returns its URL.
func fixture(t *testing.T, h *harness.Harness, x tools, name string, args ...string) string {
	t.Helper()
	address := harness.FreeAddress(t)
	p, err := process.Start(process.Spec{
		Name: name, Path: x.server, Args: append([]string{"-http", address}, args...),
		Log: filepath.Join(h.Dir, name+".log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(5 * time.Second) })
	err = p.Await(t.Context(), 30*time.Second, func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + address + "/"
}

// results says how often each check of a scenario ended in which way, by scenario
// and by check.
type results map[string]map[string]endings

// endings counts a check's results: its status, and what the runner said about it.
type endings map[string]int

// stamp is what the runners put behind a scenario's name.
var stamp = regexp.MustCompile(`-\d{4}-\d\d-\d\dT[\d-]+Z$`)

// checks runs a suite against the URL.
func checks(t *testing.T, x tools, args []string, target string) results {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, x.node, append(args, "--url", target, "--output-dir", dir)...)
	// Its exit status tells about failed checks, which are compared below.
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	all := read(t, dir)
	if len(all) == 0 {
		t.Fatalf("%s has left no results\n%s", cmd, out)
	}
	return all
}

// read reads what a runner has left in its folder.
func read(t *testing.T, dir string) results {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "checks.json"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(results)
	for _, file := range files {
		scenario := stamp.ReplaceAllString(filepath.Base(filepath.Dir(file)), "")
		scenario = strings.TrimPrefix(scenario, "server-")
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var list []struct{ ID, Status, ErrorMessage string }
		if err := json.Unmarshal(content, &list); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[scenario] = make(map[string]endings)
		for _, c := range list {
			if all[scenario][c.ID] == nil {
				all[scenario][c.ID] = endings{}
			}
			all[scenario][c.ID][strings.TrimSpace(c.Status+" "+c.ErrorMessage)]++
		}
	}
	return all
}

// compare reports every check that ended otherwise than against the server
// itself, but for those that are known to, which it returns.
func compare(t *testing.T, want, got results, known map[string]string) map[string]bool {
	t.Helper()
	equal, met := 0, map[string]bool{}
	for _, scenario := range slices.Sorted(maps.Keys(want)) {
		differ := differences(want[scenario], got[scenario])
		if len(differ) == 0 {
			equal++
		}
		for _, check := range differ {
			if reason := known[check]; reason != "" {
				t.Logf("%s: %s differs, as it must: %s", scenario, check, reason)
				met[check] = true
				continue
			}
			t.Errorf("%s: %s differs: against the server itself %v, through the gateway %v",
				scenario, check, want[scenario][check], got[scenario][check])
		}
	}
	for scenario := range got {
		if want[scenario] == nil {
			t.Errorf("%s ran through the gateway alone", scenario)
		}
	}
	t.Logf("%d scenarios of %d are equal check by check", equal, len(want))
	return met
}

// differences are the checks of a scenario that did not end alike.
func differences(a, b map[string]endings) []string {
	found := map[string]bool{}
	for _, checks := range []map[string]endings{a, b} {
		for check := range checks {
			if !maps.Equal(statuses(a[check]), statuses(b[check])) {
				found[check] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// statuses are a check's endings without the words, which may hold addresses.
func statuses(e endings) map[string]int {
	counts := map[string]int{}
	for said, count := range e {
		status, _, _ := strings.Cut(said, " ")
		counts[status] += count
	}
	return counts
}
