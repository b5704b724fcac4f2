package application

import (
	"strings"
	"unicode"
)

const (
	maxName  = 200 // characters
	maxMarks = 2   // of combination, one after the other
)

// cleanName makes a text of a stranger fit for a page, a log and a table: no characters that
// cannot be seen, that turn the text around or break the line, no towers of combining marks,
// single spaces, and at most 200 characters. It may be empty then.
func cleanName(text string) string {
	var b strings.Builder
	count, marks, space := 0, 0, false
	for _, c := range text {
		switch {
		case unicode.IsSpace(c) || c == '\u2800': // a Braille pattern without dots
			space = true
			continue
		case !unicode.IsPrint(c), c == unicode.ReplacementChar, unicode.Is(unicode.Variation_Selector, c), unicode.Is(unicode.Other_Default_Ignorable_Code_Point, c):
			continue
		case unicode.Is(unicode.M, c):
			if marks++; marks > maxMarks || b.Len() == 0 || space {
				continue
			}
		default:
			marks = 0
		}
		if space && count > 0 {
			if count+1 >= maxName {
				break
			}
			b.WriteByte(' ')
			count++
		}
		if space = false; count == maxName {
			break
		}
		b.WriteRune(c)
		count++
	}
	return b.String()
}
