package rewrite

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An answer is known again by its bytes and by whatever else decides how it is read. Each row changes
// one of these, and the page must be read again.
func TestAnAnswerIsKnownAgainByAllThatDecidesItsPage(t *testing.T) {
	const (
		front   = `{"jsonrpc":"2.0","id":`
		behind  = `,"result":{"tools":[{"name":"a","description":"x"}],"nextCursor":""}}`
		message = front + `1` + behind
	)
	first := Reading{Kind: Tools, Server: "s", Digest: digestOf, EmptyEnds: true}
	page, err := first.Page([]byte(message))
	require.NoError(t, err)
	other := strings.NewReplacer
	tests := map[string]struct {
		reading Reading
		page    *Page
		message string
		id      string
		want    bool
	}{
		"the same answer":                               {first, page, message, `1`, true},
		"to a request of another":                       {first, page, other(`"id":1`, `"id":"a longer one"`).Replace(message), `"a longer one"`, true},
		"with the id of no request that was sent":       {first, page, message, `2`, false},
		"with the id in another form":                   {first, page, other(`"id":1`, `"id":"1"`).Replace(message), `1`, false},
		"with more behind the id":                       {first, page, other(`"id":1`, `"id":1,"error":{}`).Replace(message), `1`, false},
		"without an id":                                 {first, page, other(`"id":1,`, ``).Replace(message), ``, false},
		"another byte of an entry":                      {first, page, other(`"x"`, `"y"`).Replace(message), `1`, false},
		"another byte in front of the id":               {first, page, other(`2.0`, `2.1`).Replace(message), `1`, false},
		"more behind it":                                {first, page, message + " ", `1`, false},
		"more in front of it":                           {first, page, " " + message, `1`, false},
		"less of it":                                    {first, page, message[:20], `1`, false},
		"nothing":                                       {first, page, "", ``, false},
		"of another list":                               {Reading{Kind: Prompts, Server: "s", Digest: digestOf, EmptyEnds: true}, page, message, `1`, false},
		"of another server":                             {Reading{Kind: Tools, Server: "t", Digest: digestOf, EmptyEnds: true}, page, message, `1`, false},
		"where the list is not pinned any more":         {Reading{Kind: Tools, Server: "s", EmptyEnds: true}, page, message, `1`, false},
		"where an empty cursor leads to another page":   {Reading{Kind: Tools, Server: "s", Digest: digestOf}, page, message, `1`, false},
		"what is behind the id alone":                   {first, page, `1` + behind, `1`, false},
		"what is in front of it alone":                  {first, page, front + `1`, `1`, false},
		"two without an id":                             {first, read(t, first, other(`"id":1,`, ``).Replace(message)), other(`"id":1,`, ``).Replace(message), ``, false},
		"where there was no answer before":              {first, nil, message, `1`, false},
		"where the answer before was without an id":     {first, read(t, first, other(`"id":1,`, ``).Replace(message)), message, `1`, false},
		"where the same answer was read for other pins": {first, read(t, Reading{Kind: Tools, Server: "s", EmptyEnds: true}, message), message, `1`, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, test.reading.Again(test.page, []byte(test.message), []byte(test.id)))
		})
	}
}

func read(t *testing.T, r Reading, message string) *Page {
	t.Helper()
	page, err := r.Page([]byte(message))
	require.NoError(t, err)
	return page
}

func TestAnEmptyCursorEndsTheListsOfThoseWhoWriteItOnTheLastPage(t *testing.T) {
	const message = `{"id":1,"result":{"tools":[],"nextCursor":""}}`
	require.True(t, read(t, Reading{Kind: Tools, Server: "s"}, message).Empty)
	require.False(t, read(t, Reading{Kind: Tools, Server: "s", EmptyEnds: true}, message).Empty)
}

// FuzzAgain: where an answer is known again, reading it would make the same page.
func FuzzAgain(f *testing.F) {
	f.Add([]byte(`{"id":1,"result":{"tools":[{"name":"a"}]}}`), []byte(`{"id":"x","result":{"tools":[{"name":"a"}]}}`), []byte(`"x"`))
	f.Add([]byte(`{"result":{"tools":[]},"id":1}`), []byte(`{"result":{"tools":[]},"id":22}`), []byte(`22`))
	f.Add([]byte(`{"result":{"tools":[]},"id" : null }`), []byte(`{"result":{"tools":[]},"id" : -1e5 }`), []byte(`-1e5`))
	f.Add([]byte(`{"result":{"id":1,"tools":[]},"id":1}`), []byte(`{"result":{"id":2,"tools":[]},"id":1}`), []byte(`2`))
	f.Fuzz(func(t *testing.T, before, message, id []byte) {
		if scalar, err := (Reading{Kind: Tools, Server: "s"}).Page([]byte(`{"id":` + string(id) + `,"result":{"tools":[]}}`)); err != nil || len(id) != scalar.source.id.End-scalar.source.id.Start {
			return // no request has such an id
		}
		reading := Reading{Kind: Tools, Server: "s", Digest: digestOf}
		page, err := reading.Page(bytes.Clone(before))
		if err != nil || !reading.Again(page, message, id) {
			return
		}
		again, err := reading.Page(message)
		if err != nil {
			t.Fatalf("%q was known by %q: %v", message, before, err)
		}
		page.source, again.source = source{}, source{}
		require.Equal(t, page, again)
	})
}

func BenchmarkAgain(b *testing.B) {
	message := fixture(50)
	reading := Reading{Kind: Tools, Server: "calculator"}
	page, err := reading.Page(bytes.Clone(message))
	require.NoError(b, err)
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if !reading.Again(page, message, []byte(`1`)) {
			b.Fatal("it is not known")
		}
	}
}
