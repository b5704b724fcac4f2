package policy

import (
	"encoding/json"
	"os"
	"testing"
)

// readTestdata reads a file of observed decisions.
func readTestdata(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// urlRow is one pattern and one URL, with what the real program made of them.
type urlRow struct {
	List, Pattern, URL string
	Match              bool
}

func TestURLMatchesAsObserved(t *testing.T) {
	var file struct{ Rows []urlRow }
	readTestdata(t, "policy-urls.json", &file)
	if len(file.Rows) == 0 {
		t.Fatal("no rows")
	}
	for _, row := range file.Rows {
		pattern := compileURL(row.Pattern)
		match := pattern.allows
		if row.List == "deny" {
			match = pattern.denies
		}
		if got := match(newTarget(row.URL)); got != row.Match {
			t.Errorf("%s entry %q, URL %q: match = %v, observed %v", row.List, row.Pattern, row.URL, got, row.Match)
		}
	}
}
