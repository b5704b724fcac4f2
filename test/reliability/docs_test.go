package reliability

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var (
	testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	namedTest    = regexp.MustCompile("`(Test\\w+)[^`\n]*`")
)

// TestDocsReliability wants docs/reliability.md to name every test of these folders. That
// those which it names exist is a test of test/pages.
func TestDocsReliability(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, found := range namedTest.FindAllStringSubmatch(string(page), -1) {
		named[found[1]] = true
	}
	for _, folder := range []string{"reliability", "partition", "isolation"} {
		paths, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no tests in %s: %v", folder, err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range testFunction.FindAllStringSubmatch(string(content), -1) {
				if found[1] != "TestDocsReliability" && !named[found[1]] {
					t.Errorf("the page does not name %s", found[1])
				}
			}
		}
	}
}
