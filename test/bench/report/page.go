package report

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// PageOf is the page beside a folder of figures: docs/performance.md beside docs/performance.
func PageOf(folder string) string { return filepath.Clean(folder) + ".md" }

// Insert replaces the text between the marks <!-- NAME --> and <!-- /NAME --> of a page.
func Insert(page, name, text string) error {
	content, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	open, end := "<!-- "+name+" -->", "<!-- /"+name+" -->"
	before, rest, opened := strings.Cut(string(content), open)
	_, after, ended := strings.Cut(rest, end)
	if !opened || !ended {
		return fmt.Errorf("%s has no section between %q and %q", page, open, end)
	}
	return os.WriteFile(page, []byte(before+open+text+end+after), 0o644)
}
