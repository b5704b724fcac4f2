// Package doctable reads the tables of the pages in docs/, for tests that
// compare them with the source.
package doctable

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Read returns the rows of the tables below a heading, down to the next heading
// of any level. A row is its cells, without the line of titles.
func Read(path, heading string) ([][]string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(content), "\n")
	at := slices.Index(lines, heading)
	if at < 0 {
		return nil, fmt.Errorf("%s has no line %q", path, heading)
	}
	var rows [][]string
	for i, line := range lines[at+1:] {
		switch {
		case strings.HasPrefix(line, "#"):
			return rows, nil
		case !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---"):
		case strings.HasPrefix(lines[at+1:][i+1], "|---"): // the titles
		default:
			rows = append(rows, cells(line))
		}
	}
	return rows, nil
}

// cells cuts a row. A "\|" is not a border.
func cells(row string) []string {
	const escaped = "\x00"
	row = strings.ReplaceAll(strings.Trim(strings.TrimSpace(row), "|"), `\|`, escaped)
	all := strings.Split(row, "|")
	for i, cell := range all {
		all[i] = strings.TrimSpace(strings.ReplaceAll(cell, escaped, "|"))
	}
	return all
}

// Names returns the texts in backticks.
func Names(text string) []string {
	var names []string
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			names = append(names, part)
		}
	}
	return names
}

// Column returns the names in one column of rows.
func Column(rows [][]string, column int) []string {
	var names []string
	for _, row := range rows {
		if column < len(row) {
			names = append(names, Names(row[column])...)
		}
	}
	return names
}
