package rewrite

import (
	"crypto/sha256"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
)

// digestOf stands for that of a definition. A text with "bad" has none.
func digestOf(entry []byte) (pin.Digest, bool) {
	if string(entry) == `{"name":"bad"}` {
		return pin.Digest{1}, false
	}
	return sha256.Sum256(entry), true
}

func TestAPinnedPageKeepsTheDigestsOfWhatItsServerWrote(t *testing.T) {
	entries := []string{
		`{"name":"first"}`, `{"name":"a b"}`, `{"name":"bad"}`, `{"name":"first","again":1}`, `"none"`,
		`{ "title":"T", "n\u0061me" : "last", "_meta":{"ui":{"resourceUri":"ui://page"}} }`,
	}
	page, err := Reading{Kind: Tools, Server: "calc", Digest: digestOf}.Page(tools(entries[0] + "," + entries[1] + ", " + entries[2] + "," + entries[3] + "," + entries[4] + " , " + entries[5]))
	require.NoError(t, err)
	require.Equal(t, []pin.Digest{sha256.Sum256([]byte(entries[0])), {}, sha256.Sum256([]byte(entries[5]))}, page.Digests, "in the order of the entries")
	require.Equal(t, 3, page.Missing)
	require.Contains(t, page.Entries[2].JSON, "ui://calc/page", "the clients' form is another")

	page, err = ReadPage(Tools, "calc", tools(entries[0]))
	require.NoError(t, err)
	require.Nil(t, page.Digests, "nobody pins it")
}

func TestAPinnedListShowsWhatIsApprovedAndNothingElse(t *testing.T) {
	message := tools(`{"name":"a"},{"name":"bad"},{"name":"b"},{"name":"c"}`)
	pinned, err := Reading{Kind: Tools, Server: "s", Digest: digestOf}.Page(message)
	require.NoError(t, err)
	before, err := ReadPage(Tools, "s", message)
	require.NoError(t, err)
	b := sha256.Sum256([]byte(`{"name":"b"}`))
	all := func(string, pin.Digest) bool { return true }
	onlyB := func(name string, digest pin.Digest) bool { return name == "b" && digest == b }
	notA := func(name string) bool { return name != "a" }
	tests := map[string]struct {
		part Part
		want string
	}{
		"without pins":                     {Part{Page: pinned}, "a bad b c"},
		"an entry that can have no digest": {Part{Page: pinned, Approves: all}, "a b c"},
		"one that is approved":             {Part{Page: pinned, Approves: onlyB}, "b"},
		"a page from before":               {Part{Page: before, Approves: all}, ""},
		"beside rules":                     {Part{Page: pinned, Approves: all, Allows: notA}, "b c"},
		"rules alone":                      {Part{Page: before, Allows: notA}, "bad b c"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.part.Position = Position{Server: "s"}
			var got result
			require.NoError(t, json.Unmarshal(Merge(nil, Tools, []Part{test.part}, Limits{}).Result, &got))
			names := ""
			for _, tool := range got.Tools {
				names += " " + tool.Name[len("s__"):]
			}
			require.Equal(t, test.want, names[min(1, len(names)):])
		})
	}
}

func TestEachListHasItsKindOfDefinition(t *testing.T) {
	for kind, want := range map[Kind]pin.Kind{Tools: pin.Tool, Prompts: pin.Prompt, Resources: pin.Resource, Templates: pin.Template, Tasks: ""} {
		require.Equal(t, want, kind.Definition(), kind.Method())
	}
}
