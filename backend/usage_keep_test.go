package backend

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// weighedStorage counts the writes, and their sizes.
type weighedStorage struct {
	logical.Storage
	puts, bytes, largest atomic.Int64
}

func newWeighedStorage() *weighedStorage { return &weighedStorage{Storage: &logical.InmemStorage{}} }

func (s *weighedStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	s.puts.Add(1)
	s.bytes.Add(int64(len(entry.Value)))
	s.largest.Store(max(s.largest.Load(), int64(len(entry.Value))))
	return s.Storage.Put(ctx, entry)
}

func TestAClientThatIsCreatedAgainInheritsNoUse(t *testing.T) {
	e := usageEnv(t)
	e.used("a", data{"jira": []any{"search"}, "github": []any{"star"}})
	old := e.read("clients/a")
	e.delete("clients/a")
	require.Empty(t, e.keys("usage/client/"))
	require.Empty(t, e.keys("usage/rows/"))
	e.client("a", data{"allowed_servers": "jira"})
	require.Nil(t, e.read("clients/a")["last_used"])
	require.Empty(t, e.usedRows("a"))

	// A report of the old one comes late.
	late := data{"clients": data{old["client_id"].(string): data{"tokens": []any{old["accessor"]}, "servers": data{"jira": []any{"search"}}}}}
	require.EqualValues(t, 2, e.report(gatewayOne, late)["refused"])
	require.Empty(t, e.usedRows("a"))
}

func TestTidyRemovesTheUseOfWhatIsGone(t *testing.T) {
	e := usageEnv(t)
	e.used("a", data{"jira": []any{"search"}, "github": []any{"star"}})
	e.used("b", data{"jira": []any{"read"}})
	id := e.read("clients/a")["client_id"].(string)
	old := e.read("clients/b")["accessor"].(string)
	// As if the deletion had been cut off before it came to the usage.
	require.NoError(t, e.b.clients.delete(context.Background(), e.storage, "a"))
	e.rotate("b", data{"grace_period": 0})
	e.used("b", nil)
	e.tidyToEnd()
	for _, key := range e.keys("usage/") {
		require.NotContains(t, key, id)
	}
	u, err := e.b.usageOf(context.Background(), e.storage, e.read("clients/b")["client_id"].(string))
	require.NoError(t, err)
	require.Len(t, u.Tokens, 1)
	require.NotContains(t, u.Tokens, old[idLength:])
	require.Equal(t, []string{"jira/read 2026-11-22"}, e.usedRows("b"))
}

func TestWhatIsOlderThanUsageDaysIsNotShownAndThenRemoved(t *testing.T) {
	e := usageEnv(t)
	e.write("config", data{"usage_days": 3})
	e.used("a", data{"jira": []any{"search", "read"}})
	e.nextDay()
	e.used("a", data{"jira": []any{"read"}})
	e.nextDay()
	require.Len(t, e.usedRows("a"), 2)
	e.nextDay()
	require.Equal(t, []string{"jira/read 2026-11-23"}, e.usedRows("a"))
	require.Equal(t, "2026-11-23", e.read("clients/a")["last_used"])
	e.nextDay()
	require.Empty(t, e.usedRows("a"))
	require.Nil(t, e.read("clients/a")["last_used"])
	require.NotEmpty(t, e.keys(usageRowsPrefix))
	e.tidyToEnd()
	require.Empty(t, e.keys(usageRowsPrefix))
	require.Empty(t, e.keys(usagePrefix))
	require.Len(t, e.keys(usageDayPrefix), 3)
}

func TestUseOfAServerThatIsGoneIsKeptUnderItsName(t *testing.T) {
	e := usageEnv(t)
	e.used("a", data{"jira": []any{"search"}})
	e.delete("servers/jira")
	e.tidyToEnd()
	require.Equal(t, []string{"jira/search 2026-11-22"}, e.usedRows("a"))
}

func TestWhatAClientHasUsedIsBounded(t *testing.T) {
	storage := newWeighedStorage()
	e := newEnvOn(t, storage, newClock())
	e.write("servers/jira", data{"transport": "http", "url": "https://jira.example.com/mcp"})
	e.client("a", data{"allowed_servers": "jira"})
	for batch := range 3 {
		tools := make([]any, maxUsageTools)
		for i := range tools {
			tools[i] = fmt.Sprintf("<<<%0125d", batch*maxUsageTools+i) // which JSON writes as long as can be
		}
		e.used("a", data{"jira": tools})
	}
	require.Len(t, e.usedRows("a"), maxUsageTools+1, "and the one for all others")
	require.Contains(t, e.usedRows("a"), "jira/ 2026-11-22")
	require.Less(t, storage.largest.Load(), int64(128<<10))

	c := e.read("clients/a")
	var tokens []any
	for range maxUsageTokens + 20 {
		tokens = append(tokens, e.lease("a", nil).data["accessor"])
	}
	id := c["client_id"].(string)
	e.report(gatewayOne, data{"clients": data{id: data{"tokens": tokens[:20]}}})
	e.nextDay()
	e.report(gatewayOne, data{"clients": data{id: data{"tokens": tokens[20:]}}})
	u, err := e.b.usageOf(context.Background(), e.storage, id)
	require.NoError(t, err)
	require.Len(t, u.Tokens, maxUsageTokens)
	require.Nil(t, u.tokenLastUsed(tokens[0].(string)), "the oldest made room")
	require.Equal(t, "2026-11-23", u.tokenLastUsed(tokens[25].(string)))
}

func TestAReportIsWrittenOnceHoweverOftenItComes(t *testing.T) {
	storage := newWeighedStorage()
	e := newEnvOn(t, storage, newClock())
	e.write("servers/jira", data{"transport": "http", "url": "https://jira.example.com/mcp"})
	e.client("a", data{"allowed_servers": "jira"})
	e.used("a", data{"jira": []any{"search"}})
	before := storage.puts.Load()
	for range 5 {
		e.used("a", data{"jira": []any{"search"}})
	}
	require.Equal(t, before, storage.puts.Load())
	c := e.read("clients/a")
	e.report(gatewayTwo, data{"clients": data{c["client_id"].(string): data{"tokens": []any{c["accessor"]}, "servers": data{"jira": []any{"search"}}}}})
	require.Equal(t, before+1, storage.puts.Load(), "another gateway's report writes that it has come")
	e.clock.Advance(24 * time.Hour)
	e.report(gatewayOne, data{"day": "2026-11-22", "clients": data{c["client_id"].(string): data{"servers": data{"jira": []any{"search"}}}}})
	e.used("a", data{"jira": []any{"search"}})
	e.report(gatewayOne, data{"day": "2026-11-22", "clients": data{c["client_id"].(string): data{"servers": data{"jira": []any{"search"}}}}})
	require.Equal(t, []string{"jira/search 2026-11-23"}, e.usedRows("a"), "yesterday's report does not set it back")
}

// Every storage call of a report goes wrong once, in every way there is. The day is never
// closed unless all of it is in storage, and the report again stores the rest.
func TestAReportIsStoredOrComesAgainWhateverStorageCallGoesWrong(t *testing.T) {
	for f, name := range faultNames {
		t.Run(name, func(t *testing.T) {
			for at := 1; at < 100; at++ {
				if !reportWithFault(t, f, at) {
					return
				}
			}
			t.Fatal("a report makes storage calls without end")
		})
	}
}

// reportWithFault reports whether there was a call to go wrong.
func reportWithFault(t *testing.T, f fault, at int) bool {
	t.Helper()
	storage := &faultyStorage{Storage: &logical.InmemStorage{}}
	e := newEnvOn(t, storage, newClock())
	for _, name := range []string{"jira", "github"} {
		e.write("servers/"+name, data{"transport": "http", "url": "https://" + name + ".example.com/mcp"})
	}
	e.client("a", data{"allowed_servers": "jira,github"})
	e.client("b", data{"allowed_servers": "jira"})
	require.NoError(t, e.b.beginDay(context.Background(), storage))
	clients := data{}
	for _, name := range []string{"a", "b"} {
		c := e.read("clients/" + name)
		clients[c["client_id"].(string)] = data{"tokens": []any{c["accessor"]}, "servers": data{"jira": []any{"search", ""}}}
	}
	report := data{"gateway": gatewayOne, "day": e.today(), "closed": true, "clients": clients}
	e = e.restart()

	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	storage.arm(at, f, leave)
	resp, err := e.request(ctx, logical.UpdateOperation, "gateway/usage", report)
	struck := storage.disarm()
	if struck == "" {
		return false
	}
	require.False(t, err == nil && resp.IsError(), "%s: the gateway is blamed: %v", struck, resp)
	require.Empty(t, e.b.heldLocks(), struck)
	if f.deadly() {
		e = e.restart()
	}
	stored := func() bool {
		return len(e.usedRows("a")) == 2 && len(e.usedRows("b")) == 2 && e.read("clients/a")["last_used"] != nil
	}
	if err == nil {
		require.True(t, stored(), "%s: a success stores everything", struck)
	}
	day, _ := e.b.usageDays.read(context.Background(), storage, e.today())
	if g := day.Gateways[gatewayOne]; g != nil && g.Closed {
		require.True(t, stored(), "%s: the day is closed before all of it is in storage", struck)
	}
	e.write("gateway/usage", report)
	require.True(t, stored(), struck)
	day, _ = e.b.usageDays.read(context.Background(), storage, e.today())
	require.True(t, day.Gateways[gatewayOne].Closed, struck)
	return true
}

// Ending and deleting succeed while storage fails to delete usage.
func TestADeletionDoesNotWaitForTheUsage(t *testing.T) {
	for at := 1; ; at++ {
		storage := &faultyStorage{Storage: &logical.InmemStorage{}}
		e := newEnvOn(t, storage, newClock())
		e.write("servers/jira", data{"transport": "http", "url": "https://jira.example.com/mcp"})
		token := e.client("a", data{"allowed_servers": "jira"})
		e.used("a", data{"jira": []any{"search"}})
		require.NoError(t, e.b.dropUsage(context.Background(), storage, "nobody's"))
		storage.arm(at, fails, nil)
		e.b.forgetUsage(context.Background(), storage, e.read("clients/a")["client_id"].(string))
		struck := storage.disarm()
		require.True(t, e.active(token))
		if struck == "" {
			return
		}
	}
}

func TestTheLastUseIsInListsOfClientsUpToABound(t *testing.T) {
	e := usageEnv(t)
	e.used("a", data{})
	info := e.must(logical.ListOperation, "clients/", nil).Data["key_info"].(data)
	require.Len(t, info, 2)
	for i := range maxListedUsage {
		require.NoError(t, putJSON(context.Background(), e.storage, fmt.Sprintf("%sc%d", clientPrefix, i), clientEntry{ID: "x"}))
	}
	answer := e.must(logical.ListOperation, "clients/", nil).Data
	require.Len(t, answer["keys"], maxListedUsage+2)
	require.Nil(t, answer["key_info"])
}
