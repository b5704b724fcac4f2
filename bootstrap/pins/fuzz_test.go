package pins

import (
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/bootstrap/console"
)

// FuzzNoTextReachesTheTerminal: whatever a server writes, it has no effect on a terminal, and
// every difference is shown.
func FuzzNoTextReachesTheTerminal(f *testing.F) {
	f.Add("Searches.", "Searches all.\x1b[2J\u202e\u200b", "name", uint8(0))
	f.Add("a\n\nb  c", "a\nb c", "n\u0430me", uint8(130))
	f.Add(strings.Repeat("long ", 100), strings.Repeat("long ", 99)+"\u0301\u0301\u0301 שלום", "\x9b", uint8(30))
	f.Add("", "<U+200B ZERO WIDTH SPACE>", "x", uint8(1))
	f.Fuzz(func(t *testing.T, was, is, name string, width uint8) {
		read := func(description string) *pin.Definition {
			raw := compact(map[string]any{"name": name, "description": description, "inputSchema": map[string]any{name: description, "enum": []any{description}}})
			d, _ := pin.Read(pin.Tool, []byte(raw)) // nil: nobody can approve it
			return d
		}
		s := State{Server: "github"}
		for description, list := range map[string]*[]Entry{was: &s.Approved, is: &s.Reported} {
			d := read(description)
			if d == nil {
				return
			}
			*list = append(*list, Entry{Name: Name{pin.Tool, d.Name}, Digest: d.Digest, Text: string(d.Text), By: name})
		}
		if was == is {
			return
		}
		for _, format := range Formats() {
			var out strings.Builder
			o := &Output{Out: &out, Term: console.Fixed(int(width), false), Format: format}
			if err := o.diff(&Broker{Mount: "mcp"}, &s, &Wanted{}); err != nil {
				t.Fatal(err)
			}
			harmless(t, out.String(), false)
			if s.Approved[0].Digest != s.Reported[0].Digest && !strings.Contains(out.String(), "description") {
				t.Fatalf("%q instead of %q is not told: %s", is, was, out.String())
			}
		}
	})
}
