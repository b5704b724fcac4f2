package pin

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func digestOf(text string) Digest { return sha256.Sum256([]byte(text)) }

func TestASetApprovesWhatIsInItAndNothingElse(t *testing.T) {
	a, b := digestOf("a"), digestOf("b")
	given := map[Kind]map[string][]Digest{Tool: {"x": {b, a, b}, "none": nil}, Instructions: {"": {a}}}
	s := NewSet(given)
	given[Tool]["x"][0] = digestOf("later")
	given[Tool]["y"] = []Digest{a}
	require.True(t, s.Approves(Tool, "x", a) && s.Approves(Tool, "x", b) && s.Approves(Instructions, "", a))
	for _, no := range []Approval{{Tool, "x", digestOf("later")}, {Tool, "y", a}, {Prompt, "x", a}, {Instructions, "", b}, {Tool, "", a}, {Tool, "none", a}} {
		require.False(t, s.Approves(no.Kind, no.Name, no.Digest), "%v", no)
	}
	require.True(t, s.Has(Tool, "x"))
	require.False(t, s.Has(Tool, "none") || s.Has(Prompt, "x") || s.Has(Tool, "X"))
	require.Len(t, slices.Collect(s.All()), 3)
}

func TestANilSetApprovesNothing(t *testing.T) {
	var s *Set
	require.False(t, s.Approves(Tool, "x", digestOf("a")) || s.Has(Tool, "x") || s.AdmitsURI("a:b"))
	require.Empty(t, slices.Collect(s.All()))
	require.Equal(t, NewSet(nil).ID(), s.ID())
	text, err := s.MarshalJSON()
	require.NoError(t, err)
	require.Equal(t, "{}", string(text))
}

func TestTheIDIsThatOfWhatASetApproves(t *testing.T) {
	a, b := digestOf("a"), digestOf("b")
	sets := []*Set{
		nil,
		NewSet(map[Kind]map[string][]Digest{Tool: {"x": {a}}}),
		NewSet(map[Kind]map[string][]Digest{Tool: {"x": {b}}}),
		NewSet(map[Kind]map[string][]Digest{Tool: {"x": {a, b}}}),
		NewSet(map[Kind]map[string][]Digest{Tool: {"x": {a}, "y": {a}}}),
		NewSet(map[Kind]map[string][]Digest{Tool: {"x": {a}}, Prompt: {"x": {a}}}),
		NewSet(map[Kind]map[string][]Digest{Prompt: {"x": {a}}}),
		NewSet(map[Kind]map[string][]Digest{Tool: {"x\" " + a.String() + "\ntool \"y": {a}}}),
	}
	ids := map[string]bool{}
	for _, s := range sets {
		ids[s.ID()] = true
	}
	require.Len(t, ids, len(sets))
	require.Equal(t, sets[3].ID(), NewSet(map[Kind]map[string][]Digest{Tool: {"x": {b, a, a}}, Prompt: {"z": {}}}).ID())
	_, err := ParseDigest(sets[1].ID())
	require.NoError(t, err)
	emoji := NewSet(map[Kind]map[string][]Digest{Tool: {"\U0001FAE9": {a}}})
	require.Equal(t, digestOf(`tool "\U0001fae9" `+a.String()+"\n").String(), emoji.ID(), "of whichever Unicode the reader knows")
}

func TestASetIsReadAsItIsWritten(t *testing.T) {
	s := NewSet(map[Kind]map[string][]Digest{Tool: {"x": {digestOf("a")}}, Server: {"": {digestOf("b")}}})
	text := must(json.Marshal(s))
	require.Equal(t, `{"server":{"":["`+digestOf("b").String()+`"]},"tool":{"x":["`+digestOf("a").String()+`"]}}`, string(text))
	var read Set
	require.NoError(t, json.Unmarshal(text, &read))
	require.Equal(t, s, &read)
	require.Equal(t, slices.Collect(s.All()), slices.Collect(read.All()))
	require.Equal(t, []Approval{{Tool, "x", digestOf("a")}, {Server, "", digestOf("b")}}, slices.Collect(s.All()))
	for _, wrong := range []string{`[]`, `{"tools":{}}`, `{"tool":{"x":["sha256:00"]}}`, `{"tool":{"x":"sha256:00"}}`} {
		require.Error(t, json.Unmarshal([]byte(wrong), new(Set)), wrong)
	}
}

func TestURIsOfApprovedResourcesAndTemplatesAreAdmitted(t *testing.T) {
	d := []Digest{digestOf("a")}
	s := NewSet(map[Kind]map[string][]Digest{
		Resource: {"file:///readme": d},
		Template: {
			"file:///logs/{day}": d, "repo://{owner}/{+path}": d, "find:x{?q}": d, "a:{b": d, "literal:template": d,
			"many:{" + strings.Repeat("v,", 1000) + "v}": d, "each:" + strings.Repeat("{+v}", 500): d, "list:{a,b}": d, "dot:a.b{.c}": d,
		},
		Tool: {"tool:uri": d},
	})
	for uri, admitted := range map[string]bool{
		"file:///readme":          true,
		"file:///logs/2026-11-30": true,
		"file:///logs/":           true, // a variable may be undefined
		"file:///logs/%2e%2e":     true,
		"repo://me/a/b?c=d#e":     true,
		"find:x?q=1":              true,
		"find:x":                  true,
		"literal:template":        true,
		"list:1,2":                true,
		"dot:a.b.txt":             true,
		"file:///README":          false,
		"file:///readme/":         false,
		"file:///logs/a/b":        false,
		"file:///logs/../secret":  false,
		"file:///logs/a?b":        false,
		"file:///logs/a\n":        false,
		"file:///logs/a\nb":       false,
		"file:///logs/%2":         false,
		"xfile:///logs/a":         false,
		"repo://me":               false,
		"dot:aXb.txt":             false,
		"a:{b":                    false,
		"many:v":                  false,
		"each:v":                  false,
		"tool:uri":                false,
		"literal:template2":       false,
		"":                        false,
		"file:///logs/{day}":      false,
		"file:///logs/" + strings.Repeat("a", maxURI): false,
	} {
		require.Equal(t, admitted, s.AdmitsURI(uri), "%.100q", uri)
	}
}
