package rewrite

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCursorsReadBackAsTheyWereWritten(t *testing.T) {
	for name, cursor := range map[string]Cursor{
		"a list that goes on with another server": {Kind: Tools, Next: "github"},
		"a list in the middle of a server":        {Kind: Prompts, Open: []Position{{Server: "a", Skip: 7}}},
		"all of it": {Kind: Templates, Next: "z", Open: []Position{
			{Server: "a", Cursor: "eyJwYWdlIjoyfQ=="}, {Server: "b", Cursor: "ü\x00", Skip: 100_000}, {Server: "c", Skip: 1},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			text := cursor.String()
			require.NotContains(t, text, `"`)
			got, err := ParseCursor(cursor.Kind, text)
			require.NoError(t, err)
			require.Equal(t, cursor, got)
		})
	}
}

// sealed returns any bytes in the form of String.
func sealed(b string) string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32([]byte(b), crc32.ChecksumIEEE([]byte(b))))
}

func TestParseCursorRefusesForgedAndStaleOnes(t *testing.T) {
	cursor := Cursor{Kind: Tools, Next: "b", Open: []Position{{Server: "a", Skip: 7}}}
	text := cursor.String()
	require.Equal(t, text, sealed("\x01\x01\x01b\x01\x01a\x00\x07"))
	other := Cursor{Kind: Prompts, Next: "b"}
	for name, text := range map[string]string{
		"nothing":                         "",
		"a server's own":                  "eyJwYWdlIjoyfQ==",
		"another list's":                  other.String(),
		"one letter changed":              strings.Replace(text, text[4:5], string(text[4]^1), 1),
		"cut short":                       text[:len(text)-1],
		"something behind it":             text + "A",
		"with padding":                    text + "=",
		"with a line break":               text[:4] + "\n" + text[4:],
		"of another version":              sealed("\x02\x01\x01b\x00"),
		"of no kind":                      sealed("\x01\x00\x01b\x00"),
		"one that leads nowhere":          sealed("\x01\x01\x00\x00"),
		"a server without a name":         sealed("\x01\x01\x00\x01\x00\x01x\x00"),
		"a server at its start":           sealed("\x01\x01\x00\x01\x01a\x00\x00"),
		"fewer servers than it says":      sealed("\x01\x01\x01b\x02\x01a\x00\x07"),
		"more servers than it says":       sealed("\x01\x01\x01b\x00\x01a\x00\x07"),
		"a text longer than all of it":    sealed("\x01\x01\x7fb\x00"),
		"more servers than can be":        sealed("\x01\x01\x01b\xff\xff\xff\xff\x0f"),
		"more entries than can be":        sealed("\x01\x01\x01b\x01\x01a\x00\xff\xff\xff\xff\x0f"),
		"a number that never ends":        sealed("\x01\x01\x01b\x01\x01a\x00\xff\xff\xff"),
		"a number in more bytes than due": sealed("\x01\x01\x01b\x01\x01a\x00\x87\x00"),
		"a server more than once":         sealed("\x01\x01\x01b\x02\x01a\x00\x07\x01a\x00\x08"),
		"a server that is behind it":      sealed("\x01\x01\x01b\x01\x01b\x00\x07"),
		"longer than any":                 strings.Repeat("A", maxCursorText+1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseCursor(Tools, text)
			require.ErrorIs(t, err, ErrCursor)
		})
	}
}

// FuzzParseCursor: no text is taken for a cursor but one that String makes.
func FuzzParseCursor(f *testing.F) {
	c := Cursor{Kind: Tools, Next: "b", Open: []Position{{Server: "a", Skip: 7}, {Server: "aa", Cursor: "x"}}}
	raw, _ := base64.RawURLEncoding.DecodeString(c.String())
	f.Add(raw[:len(raw)-4])
	f.Add([]byte("\x01\x01\x01b\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		text := sealed(string(b))
		cursor, err := ParseCursor(Tools, text)
		if err != nil {
			return
		}
		if again := cursor.String(); again != text {
			t.Fatalf("%q is read as %+v, which is %q", text, cursor, again)
		}
	})
}
