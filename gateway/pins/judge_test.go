package pins

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/grants"
)

func TestAServerWithoutPinsHasNoJudge(t *testing.T) {
	s := newStage(t)
	j := s.Of(&grants.Server{Name: "files"})
	require.Nil(t, j)
	require.True(t, j.Known())
	require.False(t, j.Pins(pin.Tool))
	require.False(t, j.Enforces(pin.Tool))
	require.True(t, j.Keeps(pin.Tool, []byte(`{"name":"a","name":"b"}`)))
	require.True(t, j.Approved(pin.Tool, nil))
	require.True(t, j.Admits(pin.Tool, "search"))
	require.True(t, j.Approves(pin.Tool, "search", pin.Digest{}))
	digest, ok := j.Digest(pin.Tool, []byte(tool("search", "Searches.")))
	require.True(t, ok)
	require.NotZero(t, digest)
}

func TestWhatIsApprovedPassesAndNothingElse(t *testing.T) {
	approved := tool("search", "Searches.")
	for name, tc := range map[string]struct {
		raw  string
		pass bool
	}{
		"as it was approved":       {approved, true},
		"in another order":         {`{ "name":"search", "description":"Searches." }`, true},
		"with other escapes":       {`{"name":"\u0073earch","description":"Searches."}`, true},
		"another description":      {tool("search", "Searches, and sends the keys."), false},
		"another tool":             {tool("send", "Searches."), false},
		"one more member":          {`{"name":"search","description":"Searches.","title":"S"}`, false},
		"a letter that looks like": {tool("search", "Se\u0430rches."), false},
		"an invisible letter":      {tool("search", "Searches.\u200b"), false},
		"two names":                {`{"name":"search","name":"search","description":"Searches."}`, false},
		"no JSON":                  {`{"name":"search"`, false},
		"nothing":                  {``, false},
		"null":                     {`null`, false},
	} {
		for _, mode := range []pin.Mode{pin.Observe, pin.Enforce} {
			t.Run(name+", "+string(mode), func(t *testing.T) {
				s := newStage(t)
				j := s.server("files", grants.Pins{Mode: mode, Set: approvals(t, pin.Tool, approved), Known: true})
				for range 3 {
					require.Equal(t, tc.pass, j.Approved(pin.Tool, []byte(tc.raw)))
					require.Equal(t, tc.pass || mode == pin.Observe, j.Keeps(pin.Tool, []byte(tc.raw)))
				}
				digest, ok := j.Digest(pin.Tool, []byte(tc.raw))
				require.Equal(t, tc.pass, ok && j.Approves(pin.Tool, "search", digest))
				require.Equal(t, mode == pin.Enforce, j.Enforces(pin.Tool))
				require.True(t, j.Pins(pin.Tool))
				if !tc.pass {
					require.GreaterOrEqual(t, s.counts.unapproved["files tool "+string(mode)], 6, "each is counted")
				} else {
					require.Empty(t, s.counts.unapproved)
				}
			})
		}
	}
}

func TestOnlyTheKindsThatArePinnedAreJudged(t *testing.T) {
	s := newStage(t)
	j := s.server("files", grants.Pins{Mode: pin.Enforce, Kinds: []pin.Kind{pin.Tool}, Set: pin.NewSet(nil), Known: true})
	raw := []byte(tool("search", "Searches."))
	require.False(t, j.Keeps(pin.Tool, raw))
	require.True(t, j.Keeps(pin.Prompt, raw))
	require.False(t, j.Enforces(pin.Prompt))
	require.True(t, j.Admits(pin.Prompt, "search"))
	require.False(t, j.Admits(pin.Tool, "search"))
	s.after(time.Second)
	require.Len(t, s.vault.texts("files"), 1)
}

// TestATextOfOneKindIsNoneOfAnother: a prompt is not approved as a tool.
func TestATextOfOneKindIsNoneOfAnother(t *testing.T) {
	raw := tool("search", "Searches.")
	j := newStage(t).enforced("files", approvals(t, pin.Tool, raw))
	for range 2 {
		require.True(t, j.Keeps(pin.Tool, []byte(raw)))
		require.False(t, j.Keeps(pin.Prompt, []byte(raw)))
	}
}

func TestNothingPassesWhileThePinsAreNotKnown(t *testing.T) {
	raw := []byte(tool("search", "Searches."))
	s := newStage(t)
	j := s.server("files", grants.Pins{Mode: pin.Enforce})
	require.False(t, j.Known())
	require.False(t, j.Keeps(pin.Tool, raw))
	require.False(t, j.Admits(pin.Tool, "search"))
	require.False(t, j.Admits(pin.Resource, "file:///a"))
	s.after(time.Second)
	require.Empty(t, s.vault.texts("files"), "it is not known that nobody has approved it")
	require.Empty(t, s.log.all)

	*s.servers["files"] = *s.servers["files"].WithPins(&grants.Pins{Mode: pin.Enforce, Set: approvals(t, pin.Tool, string(raw)), Known: true})
	require.True(t, s.Of(s.servers["files"]).Keeps(pin.Tool, raw))
	require.False(t, j.Keeps(pin.Tool, raw), "a judge is of its time")
}

// TestObservingTellsNothingWhileThePinsAreNotKnown: everything would count as not approved.
func TestObservingTellsNothingWhileThePinsAreNotKnown(t *testing.T) {
	raw := []byte(tool("search", "Searches."))
	s := newStage(t)
	j := s.server("files", grants.Pins{Mode: pin.Observe})
	require.True(t, j.Keeps(pin.Tool, raw))
	require.True(t, j.Approved(pin.Tool, raw))
	require.True(t, j.Names(pin.Tool, "search"))
	s.after(time.Second)
	require.Empty(t, s.vault.texts("files"))
	require.Empty(t, s.log.all)

	*s.servers["files"] = *s.servers["files"].WithPins(&grants.Pins{Mode: pin.Observe, Known: true})
	require.False(t, s.Of(s.servers["files"]).Approved(pin.Tool, raw))
}

// TestAGatewayWithoutAKeeperJudges, and reports nothing.
func TestAGatewayWithoutAKeeperJudges(t *testing.T) {
	raw := tool("search", "Searches.")
	server := (&grants.Server{Name: "files"}).WithPins(&grants.Pins{Mode: pin.Enforce, Set: approvals(t, pin.Tool, raw), Known: true})
	j := (*Keeper)(nil).Of(server)
	require.True(t, j.Keeps(pin.Tool, []byte(raw)))
	require.False(t, j.Keeps(pin.Tool, []byte(tool("send", "Sends."))))
	require.False(t, j.Admits(pin.Tool, "send"))
}

func TestTheJudgeIsThatOfThePresentPins(t *testing.T) {
	first, second := tool("search", "Searches."), tool("search", "Searches more.")
	s := newStage(t)
	judged := func(j *Judge) [2]bool {
		return [2]bool{j.Keeps(pin.Tool, []byte(first)), j.Keeps(pin.Tool, []byte(second))}
	}
	for i, tc := range []struct {
		approved []string
		want     [2]bool
	}{
		{[]string{first}, [2]bool{true, false}},
		{[]string{second}, [2]bool{false, true}},
		{[]string{first, second}, [2]bool{true, true}},
		{nil, [2]bool{false, false}},
		{[]string{first}, [2]bool{true, false}},
	} {
		j := s.enforced("files", approvals(t, pin.Tool, tc.approved...))
		require.Equal(t, tc.want, judged(j), i)
		require.Equal(t, tc.want, judged(j), i)
		require.Same(t, j, s.Of(s.servers["files"]))
		held := 0
		j.texts.known.Range(func(_, _ any) bool { held++; return true })
		require.Len(t, tc.approved, held, "only approved texts are kept")
	}
}

func TestACallByNameNeedsAnApproval(t *testing.T) {
	digests := func(names ...string) map[string][]pin.Digest {
		m := map[string][]pin.Digest{}
		for _, name := range names {
			m[name] = []pin.Digest{{1}}
		}
		return m
	}
	set := pin.NewSet(map[pin.Kind]map[string][]pin.Digest{
		pin.Tool: digests("search"), pin.Prompt: digests("greet"),
		pin.Resource: digests("file:///etc/motd"), pin.Template: digests("file:///docs/{name}"),
	})
	for name, tc := range map[string]struct {
		kind pin.Kind
		name string
		pass bool
	}{
		"a tool":                       {pin.Tool, "search", true},
		"a tool that is not approved":  {pin.Tool, "send", false},
		"a prompt as a tool":           {pin.Tool, "greet", false},
		"a prompt":                     {pin.Prompt, "greet", true},
		"a resource":                   {pin.Resource, "file:///etc/motd", true},
		"an expansion of a template":   {pin.Resource, "file:///docs/a", true},
		"a resource of nobody":         {pin.Resource, "file:///etc/passwd", false},
		"a template":                   {pin.Template, "file:///docs/{name}", true},
		"a template of nobody":         {pin.Template, "file:///{+path}", false},
		"an app's page, which is read": {pin.Resource, "ui://app/page", true},
		"no name":                      {pin.Tool, "", false},
	} {
		for _, mode := range []pin.Mode{pin.Observe, pin.Enforce} {
			t.Run(name+", "+string(mode), func(t *testing.T) {
				s := newStage(t)
				j := s.server("files", grants.Pins{Mode: mode, Set: set, Known: true})
				require.Equal(t, tc.pass || mode == pin.Observe, j.Admits(tc.kind, tc.name))
				require.Equal(t, tc.pass, j.Names(tc.kind, tc.name))
				require.Equal(t, !tc.pass, len(s.counts.unapproved) > 0)
			})
		}
	}
	j := newStage(t).server("files", grants.Pins{Mode: pin.Enforce, Kinds: []pin.Kind{pin.Resource}, Set: set, Known: true})
	require.False(t, j.Admits(pin.Resource, "ui://app/page"), "where pages are not judged, they need an approval like any resource")
}

// TestAServerThatWritesOneDefinitionInManyWaysIsBounded, and is judged rightly.
func TestAServerThatWritesOneDefinitionInManyWaysIsBounded(t *testing.T) {
	j := newStage(t).enforced("files", approvals(t, pin.Tool, tool("search", "Searches.")))
	for i := range 10 * formsKept {
		require.True(t, j.Keeps(pin.Tool, []byte(strings.Repeat(" ", i)+tool("search", "Searches."))))
	}
	held := 0
	j.texts.known.Range(func(_, _ any) bool { held++; return true })
	require.Equal(t, formsKept, held)
	for i := range 3 * textsKept / pin.MaxText {
		raw := bytes.Repeat([]byte{byte(i)}, pin.MaxText)
		j.texts.add(j.texts.key(pin.Tool, raw), &pin.Definition{Kind: pin.Tool, Digest: pin.Digest{byte(i)}}, raw)
	}
	require.LessOrEqual(t, j.texts.size, textsKept)
	require.Greater(t, j.texts.size, textsKept/2)
}

// TestTheBytesOfAMessageAreNotKept: the buffer that they stand in is used again.
func TestTheBytesOfAMessageAreNotKept(t *testing.T) {
	j := newStage(t).enforced("files", approvals(t, pin.Tool, tool("search", "Searches.")))
	raw := []byte(tool("search", "Searches."))
	require.True(t, j.Keeps(pin.Tool, raw))
	copy(raw, tool("search", "Sends it."))
	require.False(t, j.Keeps(pin.Tool, raw))
	again := []byte(tool("search", "Searches."))
	require.NotNil(t, j.texts.find(j.texts.key(pin.Tool, again), again))
	require.True(t, j.Keeps(pin.Tool, again))
}
