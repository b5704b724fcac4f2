package rewrite

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// server is a server whose list has pages. The first's cursor is "".
type server struct {
	name  string
	pages []*Page
}

// page returns the page at the cursor, or nil.
func (s *server) page(cursor string) *Page {
	n := 0
	if cursor != "" {
		if _, err := fmt.Sscan(cursor, &n); err != nil {
			return nil
		}
	}
	return s.pages[n]
}

// newServer returns a server with pages of that many tools.
func newServer(tb testing.TB, name string, sizes ...int) *server {
	tb.Helper()
	s := &server{name: name}
	n := 0
	for i, size := range sizes {
		var entries []string
		for range size {
			entries = append(entries, fmt.Sprintf(`{"name":"t%d"}`, n))
			n++
		}
		cursor := "null"
		if i+1 < len(sizes) {
			cursor = fmt.Sprintf(`"%d"`, i+1)
		}
		page, err := ReadPage(Tools, name, []byte(`{"result":{"tools":[`+strings.Join(entries, ",")+`],"nextCursor":`+cursor+`}}`))
		require.NoError(tb, err)
		s.pages = append(s.pages, page)
	}
	return s
}

// parts returns the parts of the list that goes on at the cursor, as the
// endpoint picks them.
func parts(servers []*server, cursor Cursor, allows func(string) bool) []Part {
	var list []Part
	for _, p := range cursor.Open {
		i := slices.IndexFunc(servers, func(s *server) bool { return s.name == p.Server })
		list = append(list, Part{Page: servers[i].page(p.Cursor), Position: p, Allows: allows})
	}
	for _, s := range servers {
		if cursor.Next != "" && s.name >= cursor.Next {
			list = append(list, Part{Page: s.page(""), Position: Position{Server: s.name}, Allows: allows})
		}
	}
	return list
}

// result is a merged result as a client reads it.
type result struct {
	Tools      []struct{ Name string }
	NextCursor *string
	TTLMs      *int64
	CacheScope string
	ResultType string
}

// walk reads the whole list, page by page, and returns its pages' names.
func walk(t *testing.T, servers []*server, limits Limits, allows func(string) bool) (pages [][]string) {
	t.Helper()
	cursor := Cursor{Kind: Tools, Next: servers[0].name}
	for {
		merged := Merge([]byte("> "), Tools, parts(servers, cursor, allows), limits)
		require.Equal(t, "> ", string(merged.Result[:2]))
		var got result
		require.NoError(t, json.Unmarshal(merged.Result[2:], &got), string(merged.Result))
		require.Len(t, got.Tools, merged.Entries)
		var page []string
		for _, tool := range got.Tools {
			page = append(page, tool.Name)
		}
		pages = append(pages, page)
		if got.NextCursor == nil {
			require.True(t, merged.Cursor.Done())
			return pages
		}
		var err error
		cursor, err = ParseCursor(Tools, *got.NextCursor)
		require.NoError(t, err)
		require.Equal(t, merged.Cursor, cursor)
	}
}

func TestMergeListsTheFirstPagesOfAllServersFirst(t *testing.T) {
	servers := []*server{newServer(t, "a", 2, 1), newServer(t, "b", 1), newServer(t, "c", 1, 1, 1)}
	require.Equal(t, [][]string{
		{"a__t0", "a__t1", "b__t0", "c__t0"},
		{"a__t2", "c__t1"},
		{"c__t2"},
	}, walk(t, servers, Limits{}, nil))
}

func TestMergeCutsPagesToTheirLimits(t *testing.T) {
	servers := []*server{newServer(t, "a", 3), newServer(t, "b", 1), newServer(t, "c"), newServer(t, "d", 2)}
	servers[2].pages = []*Page{{Server: "c"}}
	two := [][]string{{"a__t0", "a__t1"}, {"a__t2", "b__t0"}, {"d__t0", "d__t1"}}
	require.Equal(t, two, walk(t, servers, Limits{MaxEntries: 2}, nil))
	size := len(`{"name":"a__t0"},{"name":"a__t1"}`)
	require.Equal(t, two, walk(t, servers, Limits{MaxBytes: size}, nil))
	require.Equal(t, two, walk(t, servers, Limits{MaxBytes: size + 1}, nil))
	// One always fits, or the list would never end.
	require.Len(t, walk(t, servers, Limits{MaxBytes: 1}, nil), 6)
}

func TestMergeListsEveryEntryOnceWhateverTheLimits(t *testing.T) {
	servers := []*server{newServer(t, "a", 3, 0, 2), newServer(t, "b", 1), newServer(t, "c", 0), newServer(t, "d", 2, 4), newServer(t, "e", 1)}
	var all []string
	for _, s := range servers {
		for _, page := range s.pages {
			for _, e := range page.Entries {
				all = append(all, s.name+"__"+e.Name)
			}
		}
	}
	slices.Sort(all)
	odd := func(name string) bool { return strings.ContainsAny(name, "13579") }
	for _, allows := range []func(string) bool{nil, odd} {
		want := all
		if allows != nil {
			want = slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !allows(name) })
		}
		for limit := range len(all) + 2 {
			got := slices.Concat(walk(t, servers, Limits{MaxEntries: limit}, allows)...)
			slices.Sort(got)
			require.Equal(t, want, got, "limit %d", limit)
		}
	}
}

func TestMergeLeavesOutWhoHasNothingToGive(t *testing.T) {
	a, c := newServer(t, "a", 1), newServer(t, "c", 1)
	merged := Merge(nil, Tools, []Part{
		{Page: a.page(""), Position: Position{Server: "a"}},
		{Position: Position{Server: "b"}},
		{Page: c.page(""), Position: Position{Server: "c"}},
	}, Limits{})
	require.Equal(t, `{"tools":[{"name":"a__t0"},{"name":"c__t0"}]}`, string(merged.Result))
	require.True(t, merged.Cursor.Done())

	merged = Merge(nil, Prompts, nil, Limits{})
	require.Equal(t, `{"prompts":[]}`, string(merged.Result))

	// Behind the end of a page it may have something the next time.
	merged = Merge(nil, Tools, []Part{
		{Page: a.page(""), Position: Position{Server: "a"}},
		{Page: c.page(""), Position: Position{Server: "b"}},
		{Position: Position{Server: "c"}},
	}, Limits{MaxEntries: 1})
	require.Equal(t, "b", merged.Cursor.Next)
}

func TestMergeForgivesAListThatHasShrunk(t *testing.T) {
	a := newServer(t, "a", 2)
	merged := Merge(nil, Tools, []Part{{Page: a.page(""), Position: Position{Server: "a", Skip: 7}}}, Limits{})
	require.Equal(t, `{"tools":[]}`, string(merged.Result))
	require.True(t, merged.Cursor.Done())
}

func TestMergeTellsHowLongTheShortestLivedPartMayBeKept(t *testing.T) {
	part := func(name, members string) Part {
		page, err := ReadPage(Tools, name, []byte(`{"result":{`+members+`"tools":[{"name":"t"}]}}`))
		require.NoError(t, err)
		return Part{Page: page, Position: Position{Server: name}}
	}
	for want, list := range map[int64][]Part{
		30_000: {part("a", ""), part("b", `"ttlMs":99999999,"cacheScope":"public",`)},
		700:    {part("a", `"ttlMs":5000,`), part("b", `"ttlMs":700,`), part("c", "")},
		0:      {part("a", `"ttlMs":0,`), part("b", "")},
	} {
		merged := Merge(nil, Tools, list, Limits{MaxTTL: 30 * time.Second, Hints: true})
		var got result
		require.NoError(t, json.Unmarshal(merged.Result, &got))
		require.NotNil(t, got.TTLMs)
		require.Equal(t, want, *got.TTLMs)
		require.Equal(t, "private", got.CacheScope)
		require.Equal(t, "complete", got.ResultType)
	}
}

// BenchmarkMerge is a list of 100 servers with 50 tools each, all of them at hand.
func BenchmarkMerge(b *testing.B) {
	message := fixture(50)
	var list []Part
	for i := range 100 {
		name := fmt.Sprintf("server-%03d", i)
		page, err := ReadPage(Tools, name, message)
		require.NoError(b, err)
		list = append(list, Part{Page: page, Position: Position{Server: name}})
	}
	rules := func(name string) bool { return name != "tool-7" }
	for name, allows := range map[string]func(string) bool{"all tools": nil, "with rules": rules} {
		for i := range list {
			list[i].Allows = allows
		}
		b.Run(name, func(b *testing.B) {
			var buffer []byte
			b.ReportAllocs()
			for b.Loop() {
				merged := Merge(buffer[:0], Tools, list, Limits{MaxTTL: time.Minute, Hints: true})
				buffer = merged.Result
			}
			b.SetBytes(int64(len(buffer)))
			b.ReportMetric(float64(len(buffer)), "bytes")
		})
	}
}
