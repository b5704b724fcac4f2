package pins

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// schema is the rest of a tool of the usual size.
var schema = `,"description":"` + strings.Repeat("Searches the files of a project. ", 20) +
	`","inputSchema":{"type":"object","properties":{"path":{"type":"string","description":"` + strings.Repeat("Where to look. ", 20) +
	`"},"limit":{"type":"integer","minimum":1}},"required":["path"]}}`

func entries(n int) (raw [][]byte, texts []string) {
	for i := range n {
		text := fmt.Sprintf(`{"name":"tool-%d"%s`, i, schema)
		raw, texts = append(raw, []byte(text)), append(texts, text)
	}
	return raw, texts
}

// TestAKnownTextCostsNoMemory: neither one that is approved, nor one that is not.
func TestAKnownTextCostsNoMemory(t *testing.T) {
	s := newStage(t)
	raw, texts := entries(2)
	j := s.enforced("files", approvals(t, pin.Tool, texts[0]))
	server := s.servers["files"]
	require.True(t, j.Keeps(pin.Tool, raw[0]))
	require.False(t, j.Keeps(pin.Tool, raw[1]))
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Of(server).Keeps(pin.Tool, raw[0]) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Of(server).look(pin.Tool, raw[1]) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Of(server).Admits(pin.Tool, "tool-0") }))
	unpinned := &grants.Server{Name: "github"}
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Of(unpinned).Keeps(pin.Tool, raw[0]) }))
}

func BenchmarkKeeps(b *testing.B) {
	for _, n := range []int{1, 50, 5000} {
		raw, texts := entries(n)
		for name, set := range map[string]*pin.Set{"approved": approvals(b, pin.Tool, texts...), "not approved": nil} {
			b.Run(fmt.Sprintf("%d entries, %s", n, name), func(b *testing.B) {
				s := newStage(b)
				j := s.enforced("files", set)
				s.options.Observer = nil
				for _, text := range raw {
					j.Keeps(pin.Tool, text)
				}
				b.ReportAllocs()
				b.SetBytes(int64(n * len(raw[0])))
				for b.Loop() {
					for _, text := range raw {
						j.Keeps(pin.Tool, text)
					}
				}
			})
		}
	}
	b.Run("a text that was not seen before", func(b *testing.B) {
		s := newStage(b)
		j := s.server("files", grants.Pins{Mode: pin.Observe, Known: true})
		s.options.Observer = nil
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i++
			j.Keeps(pin.Tool, fmt.Appendf(nil, `{"name":"tool-%d"%s`, i, schema))
		}
	})
}
