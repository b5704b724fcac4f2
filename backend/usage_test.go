package backend

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/check"
)

const (
	gatewayOne = "gateway000000001"
	gatewayTwo = "gateway000000002"
)

// used reports the usage of one client today.
func (e *env) used(name string, servers data) data {
	e.t.Helper()
	c := e.read("clients/" + name)
	return e.report(gatewayOne, data{"clients": data{c["client_id"].(string): data{"tokens": []any{c["accessor"]}, "servers": servers}}})
}

// report sends a report of today, with other fields if given.
func (e *env) report(gateway string, more data) data {
	e.t.Helper()
	d := data{"gateway": gateway, "day": e.today()}
	for field, value := range more {
		d[field] = value
	}
	return e.write("gateway/usage", d).Data
}

func (e *env) today() string { return check.DayOf(e.clock.Now()).String() }

// nextDay moves the clock to the next day's same time, and has the engine's own work done then.
func (e *env) nextDay() {
	e.t.Helper()
	e.clock.Advance(24 * time.Hour)
	require.NoError(e.t, e.b.beginDay(context.Background(), e.storage))
}

func (e *env) usedRows(name string) []string {
	e.t.Helper()
	var rows []string
	for _, row := range e.read("usage/clients/" + name)["rows"].([]map[string]any) {
		rows = append(rows, fmt.Sprintf("%s/%s %s", row["server"], row["tool"], row["last_used"]))
	}
	return rows
}

// usageEnv has two servers, and the clients a and b.
func usageEnv(t testing.TB) *env {
	t.Helper()
	e := newEnv(t)
	for _, name := range []string{"jira", "github"} {
		e.write("servers/"+name, data{"transport": "http", "url": "https://" + name + ".example.com/mcp"})
	}
	e.client("a", data{"allowed_servers": "jira,github"})
	e.client("b", data{"allowed_servers": "jira"})
	return e
}

func TestWhatWasUsedIsSeenInEveryRead(t *testing.T) {
	e := usageEnv(t)
	answer := e.used("a", data{"jira": []any{"search", ""}})
	require.EqualValues(t, 0, answer["refused"])

	const day = "2026-11-22"
	client := e.read("clients/a")
	accessor := client["accessor"].(string)
	require.Equal(t, day, client["last_used"])
	require.Nil(t, e.read("clients/b")["last_used"])
	require.Equal(t, day, e.read("clients/a/tokens/" + accessor)["last_used"])
	require.Equal(t, []string{"jira/ " + day, "jira/search " + day}, e.usedRows("a"))
	require.Empty(t, e.usedRows("b"))

	clients := e.must(logical.ListOperation, "clients/", nil).Data
	require.Equal(t, []string{"a", "b"}, clients["keys"])
	require.Equal(t, data{"a": data{"last_used": day}, "b": data{"last_used": nil}}, clients["key_info"])
	tokens := e.must(logical.ListOperation, "clients/a/tokens/", nil).Data
	require.Equal(t, data{accessor: data{"last_used": day}}, tokens["key_info"])

	e.nextDay()
	e.used("a", data{"jira": []any{"search"}, "github": []any{"star"}})
	require.Equal(t, []string{"github/star 2026-11-23", "jira/ 2026-11-22", "jira/search 2026-11-23"}, e.usedRows("a"))
}

func TestAReportOfWhatDoesNotExistIsRefusedRowByRow(t *testing.T) {
	e := usageEnv(t)
	id := e.read("clients/a")["client_id"].(string)
	stranger := strings.Repeat("x", idLength)
	for what, c := range map[string]struct {
		clients data
		refused int
	}{
		"no client of the id":                 {data{stranger: data{"tokens": []any{stranger + stranger}, "servers": data{"jira": []any{"search"}}}}, 2},
		"no token of the accessor":            {data{id: data{"tokens": []any{id + stranger}}}, 1},
		"another client's accessor":           {data{id: data{"tokens": []any{e.read("clients/b")["accessor"]}}}, 1},
		"no server of the name":               {data{id: data{"servers": data{"slack": []any{"post", "read"}}}}, 2},
		"a name that no server can have":      {data{id: data{"servers": data{"../jira": []any{"search"}}}}, 1},
		"a name that is too long for a tool":  {data{id: data{"servers": data{"jira": []any{strings.Repeat("n", check.MaxToolName+1)}}}}, 1},
		"a name with a line feed for a tool":  {data{id: data{"servers": data{"jira": []any{"se\narch"}}}}, 1},
		"a good row beside one that is wrong": {data{id: data{"servers": data{"jira": []any{"good"}, "slack": []any{"post"}}}}, 1},
	} {
		require.EqualValues(t, c.refused, e.report(gatewayOne, data{"clients": c.clients})["refused"], what)
	}
	require.Equal(t, []string{"jira/good 2026-11-22"}, e.usedRows("a"))
	require.Empty(t, e.usedRows("b"))
	for _, key := range e.keys("usage/") {
		require.NotContains(t, key, stranger)
		require.NotContains(t, key, "slack")
	}
}

func TestAReportThatNoGatewaySendsIsRefused(t *testing.T) {
	e := usageEnv(t)
	many := make([]any, check.MaxReportRows+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	id := e.read("clients/a")["client_id"].(string)
	for field, c := range map[string]struct {
		d   data
		say string
	}{
		"no gateway":      {data{"gateway": ""}, "id of a gateway"},
		"another id":      {data{"gateway": "../../config/xx"}, "id of a gateway"},
		"before":          {data{"day": "2026-11-20"}, "neither today nor yesterday"},
		"tomorrow":        {data{"day": "2026-11-23"}, "neither today nor yesterday"},
		"no day":          {data{"day": "today"}, "is not a valid day"},
		"nothing lost":    {data{"lost": -1}, "negative"},
		"not an object":   {data{"clients": data{id: "x"}}, "is not an object of clients"},
		"a null client":   {data{"clients": data{id: nil}}, "null"},
		"an unknown part": {data{"clients": data{id: data{"prompts": []any{}}}}, "is not an object of clients"},
		"a short id":      {data{"clients": data{"a": data{}}}, "id of a client"},
		"too many rows":   {data{"clients": data{id: data{"servers": data{"jira": many}}}}, "send the others with the next one"},
	} {
		d := data{"gateway": gatewayOne, "day": "2026-11-22"}
		for name, value := range c.d {
			d[name] = value
		}
		require.Contains(t, e.refusedWrite("gateway/usage", d), c.say, field)
	}
	require.Empty(t, e.keys("usage/"))
}

// TestTheLargestReportOfAGatewayIsTaken: a gateway counts rows of clients, tokens and tools, as
// the engine does.
func TestTheLargestReportOfAGatewayIsTaken(t *testing.T) {
	e := usageEnv(t)
	clients := data{}
	for i := range check.MaxReportRows { // all of clients that are gone, and so refused row by row
		id := fmt.Sprintf("%016d", i)
		switch i % 3 {
		case 0:
			clients[id] = data{}
		case 1:
			clients[id] = data{"tokens": []any{id + id}}
		default:
			clients[id] = data{"servers": data{"jira": []any{"search"}}}
		}
	}
	require.EqualValues(t, check.MaxReportRows, e.report(gatewayOne, data{"clients": clients})["refused"])
}
