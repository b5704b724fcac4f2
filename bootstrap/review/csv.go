package review

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// writeCSV writes a row a pair.
func writeCSV(to io.Writer, r *Review) error {
	w := csv.NewWriter(to)
	if err := w.Write([]string{
		"client", "role", "server", "allowed", "decision", "policy", "tools", "prompts", "resources", "usage", "last_used", "tools_used",
	}); err != nil {
		return err
	}
	for i := range r.Pairs {
		p := &r.Pairs[i]
		items := make([]string, len(kinds))
		if p.Allowed {
			for k := range kinds {
				items[k] = rulesText(p.Limits, &kinds[k])
			}
		}
		row := []string{p.Client, r.Clients[i/len(r.Servers)].Role, p.Server, strconv.FormatBool(p.Allowed), p.Decision, p.Policy}
		row = append(append(row, items...), p.Usage, p.LastUsed, strings.Join(p.Tools, " "))
		for n := range row {
			row[n] = cell(row[n])
		}
		if err := w.Write(row); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// formula are the characters with which a formula begins, for some spreadsheet.
const formula = "=+-@\t\r\n＝＋－＠"

// cell keeps a spreadsheet from taking a text for a formula, by an apostrophe in front of it
// (OWASP, "CSV Injection").
func cell(text string) string {
	first, _ := utf8.DecodeRuneInString(strings.TrimLeft(text, " "))
	if text != "" && strings.ContainsRune(formula, first) {
		return "'" + text
	}
	return text
}
