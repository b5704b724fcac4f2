package console

import (
	"regexp"
	"strings"
)

// plainWord is a word that no shell reads as anything else.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// ShellQuoted is a text as one word of a shell, quoted only where it must be.
func ShellQuoted(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
