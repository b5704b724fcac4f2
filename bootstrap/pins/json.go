package pins

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
)

// writeJSON writes a value in ASCII alone, so that a terminal shows every character of it.
func writeJSON(out io.Writer, value any) error {
	data, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, r := range string(data) {
		switch {
		case r < unicode.MaxASCII:
			text.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&text, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&text, `\u%04x`, r)
		}
	}
	_, err = fmt.Fprintln(out, text.String())
	return err
}
