package review

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// formats are the forms in which a review can be written, by their names.
var formats = []struct {
	name  string
	write func(io.Writer, *Review) error
}{
	{"text", writeText},
	{"csv", writeCSV},
	{"json", writeJSON},
	{"html", writeHTML},
}

// Formats are the names of the forms in which a review can be written.
func Formats() []string {
	names := make([]string, 0, len(formats))
	for _, f := range formats {
		names = append(names, f.name)
	}
	return names
}

// Write writes a review in a form.
func Write(to io.Writer, format string, r *Review) error {
	for _, f := range formats {
		if f.name == format {
			return f.write(to, r)
		}
	}
	return fmt.Errorf("there is no format %q: take one of %s", format, strings.Join(Formats(), ", "))
}

// writeJSON writes a value a line, so that two reviews can be compared line by line.
func writeJSON(to io.Writer, r *Review) error {
	e := json.NewEncoder(to)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// compare compares pairs of texts until two differ.
func compare(texts ...string) int {
	for pair := range slices.Chunk(texts, 2) {
		if order := strings.Compare(pair[0], pair[1]); order != 0 {
			return order
		}
	}
	return 0
}

// rulesText are the rules about one kind of item, for people: "all", or the allowing and
// the denying rules.
func rulesText(limits []Limit, k *kind) string {
	var allowed, denied []string
	limited := false
	for _, l := range limits {
		switch l.List {
		case k.allowed:
			limited = true
			if l.Rule != "" {
				allowed = append(allowed, l.text())
			}
		case k.denied:
			denied = append(denied, l.text())
		}
	}
	text := "all"
	if limited {
		text = "only " + strings.Join(allowed, ", ")
		if len(allowed) == 0 {
			return "none"
		}
	}
	if len(denied) > 0 {
		text += " but not " + strings.Join(denied, ", ")
	}
	return text
}

// text is a rule with its source.
func (l *Limit) text() string {
	if l.Role == "" {
		return l.Rule
	}
	return l.Rule + " (role " + l.Role + ")"
}
