package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// read decodes the stream, and returns type and data of each event with data, and all Raws
// joined.
func read(t *testing.T, r io.Reader) (events []string, raw string) {
	t.Helper()
	d := NewDecoder(r, 1<<16)
	for {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			return events, raw
		}
		require.NoError(t, err)
		raw += string(e.Raw)
		if e.HasData {
			events = append(events, fmt.Sprintf("%s|%s", e.Type, e.Data))
		}
	}
}

func TestDecoderSplitsEvents(t *testing.T) {
	tests := map[string]struct {
		stream string
		want   []string
	}{
		"one":                             {"data: a\n\n", []string{"|a"}},
		"without a space":                 {"data:a\n\n", []string{"|a"}},
		"only one space is taken off":     {"data:  a\n\n", []string{"| a"}},
		"type, id and retry":              {"event: endpoint\nid: 7\nretry: 10\ndata: /x\n\n", []string{"endpoint|/x"}},
		"several":                         {"data: a\n\ndata: b\n\n", []string{"|a", "|b"}},
		"several lines of data":           {"data: a\ndata: b\ndata:\ndata: c\n\n", []string{"|a\nb\n\nc"}},
		"data in two places":              {"data: a\nid: 1\ndata: b\n\n", []string{"|a\nb"}},
		"empty data":                      {"id: 1\ndata:\n\n", []string{"|"}},
		"data without a colon":            {"data\n\n", []string{"|"}},
		"carriage returns":                {"data: a\r\rdata: b\r\r", []string{"|a", "|b"}},
		"carriage returns and line feeds": {"data: a\r\n\r\ndata: b\r\n\r\n", []string{"|a", "|b"}},
		"all three mixed":                 {"event: x\rdata: a\r\n\ndata: b\n\r", []string{"x|a", "|b"}},
		"comments":                        {": hello\n\n:\r\ndata: a\n: inside\ndata: b\n\n", []string{"|a\nb"}},
		"a byte order mark":               {"\ufeffdata: a\n\n", []string{"|a"}},
		"a byte order mark later":         {"data: a\n\n\ufeffdata: b\n\n", []string{"|a"}},
		"blank lines":                     {"\n\n\r\n\rdata: a\n\n\n", []string{"|a"}},
		"no end":                          {"data: a\n\ndata: b", []string{"|a", "|b"}},
		"no blank line":                   {"data: a\n\ndata: b\n", []string{"|a", "|b"}},
		"other fields":                    {"Data: a\ndatax: b\n data: c\n\n", nil},
		"nothing":                         {"", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{
				"at once":       strings.NewReader(test.stream),
				"byte by byte":  iotest.OneByteReader(strings.NewReader(test.stream)),
				"last with EOF": iotest.DataErrReader(strings.NewReader(test.stream)),
			} {
				events, raw := read(t, r)
				require.Equal(t, test.want, events, how)
				require.Equal(t, test.stream, raw, how)
			}
		})
	}
}

func TestAnEventIsHandedOutWithItsLastByte(t *testing.T) {
	for _, stream := range []string{"data: a\n\n", "data: a\r\n\r\n", "data: a\r\r", ": ping\n", ":\r\n"} {
		r, w := io.Pipe()
		got := make(chan string, 2)
		go func() {
			d := NewDecoder(r, 100)
			for {
				e, err := d.Next()
				if err != nil {
					close(got)
					return
				}
				got <- string(e.Raw)
			}
		}()
		_, err := w.Write([]byte(stream))
		require.NoError(t, err)
		require.Equal(t, stream, <-got)
		require.NoError(t, w.Close())
		_, more := <-got
		require.False(t, more)
	}
}

func TestALineFeedThatComesLateIsPassedOnAtOnce(t *testing.T) {
	r, w := io.Pipe()
	d := NewDecoder(r, 100)
	go func() {
		_, _ = w.Write([]byte("data: a\r\n\r"))
		_, _ = w.Write([]byte("\n"))
	}()
	e, err := d.Next()
	require.NoError(t, err)
	require.Equal(t, "data: a\r\n\r", string(e.Raw))
	e, err = d.Next()
	require.NoError(t, err)
	require.Equal(t, "\n", string(e.Raw))
	require.False(t, e.HasData)
}

func TestWithDataKeepsTheOtherLines(t *testing.T) {
	d := NewDecoder(strings.NewReader("id: 1\r\ndata: a\r\ndata: b\r\nretry: 5\r\n\r\n"), 100)
	e, err := d.Next()
	require.NoError(t, err)
	require.Equal(t, "id: 1\r\ndata: {}\nretry: 5\r\n\r\n", string(e.WithData(nil, []byte("{}"))))
	require.Equal(t, "id: 1\r\ndata: {\ndata: \ndata: }\nretry: 5\r\n\r\n", string(e.WithData(nil, []byte("{\n\r\n}"))))
}

func TestAnEventBeyondTheLimitIsAnError(t *testing.T) {
	d := NewDecoder(io.MultiReader(strings.NewReader("data: "), endless{}), 1<<16)
	_, err := d.Next()
	require.ErrorIs(t, err, ErrTooLarge)
	require.Less(t, cap(d.buffer), 1<<19)

	whole := "data: " + strings.Repeat("x", 2<<10) + "\n\n" // in one read
	_, err = NewDecoder(strings.NewReader(whole), len(whole)-1).Next()
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = NewDecoder(strings.NewReader(whole), len(whole)).Next()
	require.NoError(t, err)
}

// Tiny lines are as many as there can be in an event.
func TestAnEventOfTinyLinesCostsNoMoreThanItsBytes(t *testing.T) {
	const size = 4 << 20
	for name, line := range map[string]string{"of data": "data\n", "that mean nothing": "a\n", "that are comments": ":\r"} {
		stream := "data: {}\n" + strings.Repeat(line, size/len(line)) + "\n"
		var reserved, most int64
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		d := NewDecoder(strings.NewReader(stream), 2*size)
		d.Reserve = func(n int64) error {
			reserved += n
			most = max(most, reserved)
			return nil
		}
		e, err := d.Next()
		require.NoError(t, err, name)
		require.True(t, e.HasData)
		require.Len(t, e.WithData(nil, []byte("{}")), len(stream)-len("data\n")*strings.Count(stream, "data\n"), name)
		runtime.ReadMemStats(&after)
		// Growing a buffer twofold takes twice its last size, which is up to twice the event's.
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(10*size), name)
		require.Greater(t, most, int64(size), name)
		require.Less(t, most, int64(6*size), name)
	}
}

// The next event gives the memory of a large one back.
func TestTheMemoryOfALargeEventIsGivenBack(t *testing.T) {
	var reserved int64
	d := NewDecoder(io.MultiReader(strings.NewReader("data: "+strings.Repeat("x", 1<<20)+"\n\n"),
		iotest.OneByteReader(strings.NewReader("data: a\n\ndata: b\n\n"))), 1<<21)
	d.Reserve = func(n int64) error { reserved += n; return nil }
	_, err := d.Next()
	require.NoError(t, err)
	require.Positive(t, reserved)
	for _, want := range []string{"a", "b"} {
		e, err := d.Next()
		require.NoError(t, err)
		require.Equal(t, want, string(e.Data))
	}
	require.Zero(t, reserved)
	require.LessOrEqual(t, cap(d.buffer), keptSize)
}

func TestAnEventThatThereIsNoRoomForIsAnError(t *testing.T) {
	full := errors.New("full")
	d := NewDecoder(io.MultiReader(strings.NewReader("data: a\n\ndata: "), endless{}), 1<<30)
	d.Reserve = func(int64) error { return full }
	e, err := d.Next()
	require.NoError(t, err)
	require.Equal(t, "a", string(e.Data))
	_, err = d.Next()
	require.ErrorIs(t, err, full)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestTheReadersErrorComesAfterWhatWasRead(t *testing.T) {
	broken := errors.New("broken")
	d := NewDecoder(io.MultiReader(strings.NewReader("data: a\n\n"), iotest.ErrReader(broken)), 100)
	e, err := d.Next()
	require.NoError(t, err)
	require.Equal(t, "a", string(e.Data))
	_, err = d.Next()
	require.ErrorIs(t, err, broken)
}

func FuzzDecoderLosesNothing(f *testing.F) {
	f.Add([]byte("event: a\r\ndata: b\r\r\ndata\n\n: c\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var raws, oneByOne bytes.Buffer
		collect := func(r io.Reader, to *bytes.Buffer) (events []string) {
			d := NewDecoder(r, len(stream)+1)
			for {
				e, err := d.Next()
				if err != nil {
					return events
				}
				to.Write(e.Raw)
				if e.HasData {
					events = append(events, fmt.Sprintf("%q %q", e.Type, e.Data))
					again := NewDecoder(bytes.NewReader(e.WithData(nil, e.Data)), len(stream)*8+100)
					if copied, err := again.Next(); err != nil || normal(copied.Data) != normal(e.Data) {
						t.Fatalf("%q: data %q became %v", stream, e.Data, copied)
					}
				}
			}
		}
		a := collect(bytes.NewReader(stream), &raws)
		b := collect(iotest.OneByteReader(bytes.NewReader(stream)), &oneByOne)
		if !bytes.Equal(raws.Bytes(), stream) || !bytes.Equal(oneByOne.Bytes(), stream) {
			t.Fatalf("%q came out as %q and %q", stream, raws.Bytes(), oneByOne.Bytes())
		}
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Fatalf("%q is read as %q at once, and as %q byte by byte", stream, a, b)
		}
	})
}

// normal drops a mark that only counts at the start of a stream.
func normal(data []byte) string { return strings.TrimPrefix(string(data), "\ufeff") }

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
		require.Equal(t, want, string(e.Rewrite(nil, []byte("new"), "x__")), "%q", stream)
	}
	e, err := NewDecoder(strings.NewReader("id: 7\ndata: a\n\n"), 1<<10).Next()
	require.NoError(t, err)
	require.Equal(t, "data: new\n\n", string(e.Rewrite(nil, []byte("new"), "")))
}
