package sse

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// collect pushes the stream in pieces of the given size.
func collect(t *testing.T, stream string, size int) (raws, data []string) {
	t.Helper()
	s := NewSplitter(1 << 10)
	emit := func(e *Event) error {
		raws = append(raws, string(e.Raw))
		if e.HasData {
			data = append(data, string(e.Data))
		}
		return nil
	}
	for stream != "" {
		n := min(size, len(stream))
		require.NoError(t, s.Push([]byte(stream[:n]), emit))
		stream = stream[n:]
	}
	require.NoError(t, s.End(emit))
	return raws, data
}

func TestASplitterFindsWhatADecoderFinds(t *testing.T) {
	for name, stream := range map[string]string{
		"LF":                   "data: a\n\ndata: b\nid: 1\n\n",
		"CR LF":                "data: a\r\n\r\ndata: b\r\n\r\n",
		"CR LF inside":         "event: message\r\ndata: a\r\ndata: b\r\n\r\n",
		"CR":                   "data: a\r\rdata: b\r\r",
		"comments":             ": one\n: two\n\ndata: a\n: three\ndata: b\n\n",
		"several lines":        "event: message\ndata: a\ndata: b\n\n",
		"a byte order mark":    "\ufeffdata: a\n\n\ufeffdata: b\n\n",
		"an end without blank": "data: a\n\ndata: b",
		"blank lines":          "\n\ndata: a\n\n\n",
		"nothing":              "",
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			d := NewDecoder(strings.NewReader(stream), 1<<10)
			for {
				e, err := d.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				if e.HasData {
					want = append(want, string(e.Data))
				}
			}
			for size := 1; size <= len(stream)+1; size++ {
				raws, data := collect(t, stream, size)
				require.Equal(t, want, data, "pieces of %d", size)
				if !strings.Contains(stream, "\r\n") {
					require.Equal(t, stream, strings.Join(raws, ""), "pieces of %d", size)
				}
			}
		})
	}
}

func TestASplitterHandsAnEventOutWithItsLastByte(t *testing.T) {
	for _, stream := range []string{"data: a\n\n", "data: a\r\n\r\n", "data: a\r\r", ":\n"} {
		s, seen := NewSplitter(1<<10), 0
		require.NoError(t, s.Push([]byte(stream), func(*Event) error { seen++; return nil }))
		require.Equal(t, 1, seen, "%q", stream)
	}
}

func TestASplitterKeepsNoMoreThanItsLimit(t *testing.T) {
	s := NewSplitter(10)
	require.NoError(t, s.Push([]byte("data: 0123"), nil))
	require.ErrorIs(t, s.Push([]byte("4"), nil), ErrTooLarge)
}

func TestAnEventWrittenAnewHoldsWhatClientsGoBy(t *testing.T) {
	for stream, want := range map[string]string{
		"id: 7\nevent: message\ndata: a\ndata: b\n\n": "id: x__7\ndata: new\n\n",
		"id:7\ndata: a\n\n":                           "id: x__7\ndata: new\n\n",
		"id: 7\n\n":                                   "id: x__7\n\n",
		"id\ndata\n\n":                                "data: new\n\n",
		"id: 7\x00\ndata\n\n":                         "data: new\n\n",
		"retry: 5\n\n":                                "retry: 5\n\n",
		"retry: 5x\n\n":                               ":\n\n",
		": comment\n":                                 ":\n\n",
		"\ufeffid: 7\n\n":                             "id: x__7\n\n",
		"other: x\ndata: a\r\nid: 7\r\ndata: b\rid: 8\r\n\r\n": "id: x__8\ndata: new\n\n",
	} {
		e, err := NewDecoder(strings.NewReader(stream), 1<<10).Next()
		require.NoError(t, err)
		require.Equal(t, want, string(e.Anew(nil, []byte("new"), "x__")), "%q", stream)
	}
	e, err := NewDecoder(strings.NewReader("id: 7\ndata: a\n\n"), 1<<10).Next()
	require.NoError(t, err)
	require.Equal(t, "data: new\n\n", string(e.Anew(nil, []byte("new"), "")))
}
