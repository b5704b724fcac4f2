package pages

import (
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/doctable"
)

// retired is a word, or a few, that docs/glossary.md has retired in some folders.
type retired struct {
	words   string // in lower case, with spaces
	folders []string
	instead string
}

// retiredWords reads the table of docs/glossary.md.
func retiredWords(t *testing.T) []retired {
	t.Helper()
	rows, err := doctable.Read(filepath.Join(root, "docs", "glossary.md"), "## Retired words")
	require.NoError(t, err)
	var all []retired
	for _, row := range rows {
		require.Len(t, row, 3, "%v", row)
		for _, words := range doctable.Names(row[0]) {
			all = append(all, retired{words: spaced(words), folders: doctable.Names(row[1]), instead: row[2]})
		}
	}
	require.NotEmpty(t, all)
	return all
}

// TestRetiredWordsAreGone: from the identifiers and the comments of Go files, and from the
// prose of pages.
func TestRetiredWordsAreGone(t *testing.T) {
	byFolder := map[string][]retired{}
	for _, word := range retiredWords(t) {
		for _, folder := range word.folders {
			byFolder[folder] = append(byFolder[folder], word)
		}
	}
	for folder, words := range byFolder {
		var found []string
		if folder == "docs" {
			pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
			require.NoError(t, err)
			for _, page := range append(pages, filepath.Join(root, "README.md")) {
				if filepath.Base(page) != "glossary.md" {
					content, err := os.ReadFile(page)
					require.NoError(t, err)
					found = append(found, inPage(filepath.Base(page), string(content), words)...)
				}
			}
		}
		for _, path := range goFiles(t, folder) {
			found = append(found, inSource(path, []byte(read(t, path)), words)...)
		}
		for _, line := range found {
			t.Error(line)
		}
	}
}

// TestARetiredWordIsFound: the check above can fail.
func TestARetiredWordIsFound(t *testing.T) {
	words := []retired{{words: "leg", instead: "backend session"}, {words: "end for good", instead: "revoke"}, {words: "goes over", instead: "overrides"}}
	source := `package p

// A legacy elegant word stands in a comment that goes
// over two lines; a leg does not.
func newLeg(legs, EndForGoodNow int) string { return "leg" }
`
	require.Equal(t, []string{
		`p.go:3: "goes over" is retired: overrides`,
		`p.go:3: "leg" is retired: backend session`,
		`p.go:5: "end for good" is retired: revoke`,
		`p.go:5: "leg" is retired: backend session`,
	}, slices.Sorted(slices.Values(inSource("p.go", []byte(source), words))))
	page := "A flag goes\nover the file.\n\n```\nleg\n```\n\nThe `leg` field.\n"
	require.Equal(t, []string{`p.md: "goes over" is retired: overrides`}, inPage("p.md", page, words))
}

// inSource returns a line for each retired word in an identifier or in a run of comments.
func inSource(path string, source []byte, words []retired) []string {
	files := token.NewFileSet()
	file := files.AddFile(path, -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, scanner.ScanComments)
	var found []string
	report := func(line int, text string) {
		for _, word := range words {
			if strings.Contains(" "+text+" ", " "+word.words+" ") {
				found = append(found, fmt.Sprintf("%s:%d: %q is retired: %s", path, line, word.words, word.instead))
			}
		}
	}
	comments, began := "", 0
	for {
		position, kind, literal := s.Scan()
		if kind == token.COMMENT && !strings.HasPrefix(literal, "//go:") {
			if comments == "" {
				began = files.Position(position).Line
			}
			comments += " " + spaced(literal)
			continue
		}
		if kind == token.SEMICOLON && literal == "\n" {
			continue
		}
		report(began, strings.TrimSpace(comments))
		comments = ""
		if kind == token.EOF {
			return found
		}
		if kind == token.IDENT {
			report(files.Position(position).Line, spaced(literal))
		}
	}
}

var (
	codeBlock  = regexp.MustCompile("(?s)```.*?```")
	codeInLine = regexp.MustCompile("`[^`]*`")
)

// inPage returns a line for each retired word in a page's prose; code is not prose.
func inPage(name, content string, words []retired) []string {
	var found []string
	prose := " " + spaced(codeInLine.ReplaceAllString(codeBlock.ReplaceAllString(content, "."), ".")) + " "
	for _, word := range words {
		if strings.Contains(prose, " "+word.words+" ") {
			found = append(found, fmt.Sprintf("%s: %q is retired: %s", name, word.words, word.instead))
		}
	}
	return found
}

// spaced returns a text's words in lower case, one space between two. An identifier is the
// words that its capitals begin.
func spaced(text string) string {
	var b strings.Builder
	var last rune
	for _, r := range text {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			r = ' '
			if last == ' ' || b.Len() == 0 {
				continue
			}
		case unicode.IsUpper(r) && (unicode.IsLower(last) || unicode.IsDigit(last)):
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
		last = r
	}
	return strings.TrimSpace(b.String())
}
