package reliability

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	namedTest    = regexp.MustCompile("`(Test[^`\n]+)`")
)

// TestDocsReliability wants every test that docs/reliability.md names to exist, and
// the page to name every test of these folders.
func TestDocsReliability(t *testing.T) {
	const root = "../.."
	page, err := os.ReadFile(filepath.Join(root, "docs", "reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{} // by test, the file that has it
	for _, folder := range []string{"test", "gateway", "backend", "plugin"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			content, err := os.ReadFile(path)
			for _, found := range testFunction.FindAllStringSubmatch(string(content), -1) {
				sources[found[1]] = string(content)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	named := map[string]bool{}
	for _, found := range namedTest.FindAllStringSubmatch(string(page), -1) {
		name, sub, hasSub := strings.Cut(found[1], "/")
		named[name] = true
		source, exists := sources[name]
		if !exists {
			t.Errorf("the page names %s, which does not exist", name)
		}
		if hasSub && !strings.Contains(source, strconv.Quote(sub)) {
			t.Errorf("the page names %s, which has no part %q", name, sub)
		}
	}
	for _, folder := range []string{"reliability", "isolation"} {
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
