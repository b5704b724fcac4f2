package usage

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhatIsUsedAgainCostsNoMemory: a request allocates nothing for a use that was noted today.
func TestWhatIsUsedAgainCostsNoMemory(t *testing.T) {
	s := newStage(t)
	s.lists("jira", "search")
	s.used("a", "jira", "search")
	s.used("a", "jira", "")
	s.used("a", "jira", "unlisted")
	for name, use := range map[string]Use{
		"a tool":        {Client: "a", Token: "a-token", Server: "jira", Registration: "jira-id", Tool: "search"},
		"a resource":    {Client: "a", Token: "a-token", Server: "jira", Registration: "jira-id"},
		"an unknown":    {Client: "a", Token: "a-token", Server: "jira", Registration: "jira-id", Tool: "unlisted"},
		"a client only": {Client: "a", Token: "a-token"},
	} {
		require.Zero(t, testing.AllocsPerRun(100, func() { s.Used(use, noon) }), name)
	}
}

// BenchmarkUsed is the cost for a request, among a hundred thousand rows.
func BenchmarkUsed(b *testing.B) {
	s := newStage(&testing.T{})
	s.lists("server-00007", "a-tool-of-it")
	uses := make([]Use, 20_000)
	for i := range uses {
		uses[i] = Use{
			Client: fmt.Sprintf("client-id-%06d", i), Token: fmt.Sprintf("client-id-%06d-token-%06d", i, i),
			Server: "server-00007", Registration: "server-00007-id", Tool: "a-tool-of-it",
		}
		s.Used(uses[i], noon)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			s.Used(uses[i%len(uses)], noon)
		}
	})
}
