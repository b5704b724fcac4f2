package usage

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/check"
)

const twoTools = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"search"},{"name":"r\u0065ad"}]}}`

func TestTheNamesInAListBecomeKnown(t *testing.T) {
	long := strings.Repeat("n", check.MaxToolName+1)
	for name, tc := range map[string]struct {
		data   string
		events bool
		want   []string
		not    []string
	}{
		"of an answer":                   {twoTools, false, []string{"search", "read"}, nil},
		"of a stream of events":          {"event: message\ndata: " + twoTools + "\n\n", true, []string{"search", "read"}, nil},
		"behind a notification":          {"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\ndata: " + twoTools + "\n\n", true, []string{"search"}, nil},
		"not of an error":                {`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"search"}}`, false, nil, []string{"search"}},
		"not of what is no message":      {`{"tools":[{"name":"search"}]}`, false, nil, []string{"search"}},
		"not of a broken answer":         {twoTools[:70], false, nil, []string{"read"}},
		"not of a name that is too long": {`{"result":{"tools":[{"name":"` + long + `"},{"name":"ok"}]}}`, false, []string{"ok"}, []string{long}},
		"not of a name with a line feed": {`{"result":{"tools":[{"name":"a\nb"}]}}`, false, nil, []string{"a\nb"}},
		"not of a tool with two names":   {`{"result":{"tools":[{"name":"a","name":"b"}]}}`, false, nil, []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStage(t).Recorder
			r.Listed("id", []byte(tc.data), tc.events)
			r.lists.readAll()
			for _, tool := range tc.want {
				require.True(t, r.lists.has("id", tool), tool)
				require.False(t, r.lists.has("another", tool))
			}
			for _, tool := range tc.not {
				require.False(t, r.lists.has("id", tool), tool)
			}
		})
	}
}

func TestAServerThatListsWithoutEndIsBounded(t *testing.T) {
	s := newStage(t)
	var long strings.Builder
	long.WriteString(`{"result":{"tools":[{"name":"first"}`)
	for i := range 10 * maxTools {
		fmt.Fprintf(&long, `,{"name":"t%d"}`, i)
	}
	long.WriteString(`]}}`)
	for range listQueue * 2 {
		s.Listed("id", []byte(long.String()), false)
	}
	require.Len(t, s.Recorder.lists.queue, listQueue, "nobody waits for a list to be read")
	s.Recorder.lists.readAll()
	require.True(t, s.Recorder.lists.has("id", "first"))
	found, _ := s.Recorder.lists.known.Load("id")
	require.Len(t, *found.(*listed).tools.Load(), maxTools)
	for i := range maxServers + 10 {
		s.Recorder.lists.add(fmt.Sprint(i), []string{"t"}, check.DayOf(s.now))
	}
	require.EqualValues(t, maxServers, s.Recorder.lists.size.Load())
	s.after(72 * time.Hour)
	require.Zero(t, s.Recorder.lists.size.Load())
}

func TestAClientThatListsWithoutEndIsNotAlwaysHeard(t *testing.T) {
	for name, tools := range map[string]string{"tools": `{"name":"t"}`, "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			heard := 0
			for range 10 * listBurst {
				if s.WantsList("busy") {
					heard++
					s.Listed("busy", []byte(`{"result":{"tools":[`+tools+`]}}`), false)
					s.Recorder.lists.readAll()
				}
			}
			require.InDelta(t, listBurst, heard, 20)
			require.True(t, s.WantsList("another"), "it takes nothing from the other servers")
			s.now = s.now.Add(24 * time.Hour)
			require.True(t, s.WantsList("busy"), "nor from itself on the next day")
		})
	}
}
