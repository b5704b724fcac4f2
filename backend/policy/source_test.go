package policy

import (
	"encoding/json"
	"testing"
)

func TestDigest(t *testing.T) {
	a := managed(t, "a", `{"allowedMcpServers":[{"serverName":"x"},{"serverUrl":"https://h.com"}]}`)
	b := bound(t, "b", `{"deniedMcpServers":[{"serverName":"y"}]}`)
	want := Compile([]Source{a, b}).Digest()
	if len(want) != 64 {
		t.Fatalf("digest %q", want)
	}
	if got := Compile(nil).Digest(); got != "" {
		t.Errorf("no source has the digest %q", got)
	}
	same := map[string][]Source{
		"in another order":               {b, a},
		"with a source twice":            {a, b, a},
		"with entries in another order":  {managed(t, "a", `{"allowedMcpServers":[{"serverUrl":"https://h.com"},{"serverName":"x"}]}`), b},
		"with an entry twice":            {managed(t, "a", `{"allowedMcpServers":[{"serverName":"x"},{"serverUrl":"https://h.com"},{"serverName":"x"}]}`), b},
		"with keys that have no meaning": {managed(t, "a", `{"env":{},"allowedMcpServers":[{"serverName":"x","why":1},{"serverUrl":"https://h.com"}]}`), b},
	}
	for name, sources := range same {
		if got := Compile(sources).Digest(); got != want {
			t.Errorf("%s the digest is another", name)
		}
	}
	other := map[string][]Source{
		"a source less":            {a},
		"another name":             {a, bound(t, "c", `{"deniedMcpServers":[{"serverName":"y"}]}`)},
		"a managed source":         {a, managed(t, "b", `{"deniedMcpServers":[{"serverName":"y"}]}`)},
		"an empty list set":        {a, bound(t, "b", `{"deniedMcpServers":[{"serverName":"y"}],"allowedMcpServers":[]}`)},
		"an entry in another list": {a, bound(t, "b", `{"allowedMcpServers":[{"serverName":"y"}]}`)},
		"another kind of entry":    {a, bound(t, "b", `{"deniedMcpServers":[{"serverUrl":"y"}]}`)},
		"a lock":                   {a, bound(t, "b", `{"deniedMcpServers":[{"serverName":"y"}],"allowManagedMcpServersOnly":true}`)},
		"a policy gone":            {a, {Name: "b", Missing: true}},
	}
	for name, sources := range other {
		if got := Compile(sources).Digest(); got == want {
			t.Errorf("with %s the digest is the same", name)
		}
	}
}

func TestDigestStaysAsItIs(t *testing.T) {
	// Gateways of another version compare digests: a change here is a change of
	// the interface between engine and gateway.
	p := Compile([]Source{managed(t, "corp", `{"deniedMcpServers":[{"serverUrl":"https://h.com/a?b&c=<d>"}]}`)})
	if want := "60588ec5d9aeb925d06adc8bc96681ace24778c3f01510d76755a0fd71187bd6"; p.Digest() != want {
		t.Errorf("digest %s, want %s", p.Digest(), want)
	}
}

func TestSourcesMakeTheSamePolicyAgain(t *testing.T) {
	p := Compile([]Source{managed(t, "a", `{"allowedMcpServers":[]}`), bound(t, "b", `{"deniedMcpServers":[{"serverCommand":["x","y"]}]}`), {Name: "c", Missing: true}})
	text, err := json.Marshal(p.Sources())
	if err != nil {
		t.Fatal(err)
	}
	var sources []Source
	if err := json.Unmarshal(text, &sources); err != nil {
		t.Fatal(err)
	}
	if got := Compile(sources).Digest(); got != p.Digest() {
		t.Errorf("%s makes another policy", text)
	}
}
