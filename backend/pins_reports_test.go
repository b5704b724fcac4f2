package backend

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
)

func TestTrustFirstApprovesTheFirstOfEachNameForAnHour(t *testing.T) {
	t.Parallel()
	e := pinnedEnv(t, "enforce")
	before, alone := toolText("before", ""), toolText("a", "")
	e.reportTools(before, toolText("twice", "one"), toolText("twice", "two"))
	require.Contains(t, strings.Join(e.write("pins/s", data{"trust_first": true}).Warnings, ""), "a holder of a gateway's login can choose it")
	require.Equal(t, "2026-11-22T10:00:00Z", e.read("pins/s")["trust_first_until"])
	require.Equal(t, []string{"tool before " + digestOf(t, pin.Tool, before) + " first seen"}, e.pinRows("approved"), "the only one of its name counts")

	require.Len(t, e.watch(func() { require.Equal(t, reportCounts(1, 0, 0, 0), e.reportTools(alone)) }), 1)
	require.Contains(t, e.pinRows("approved"), "tool a "+digestOf(t, pin.Tool, alone)+" first seen")
	require.Equal(t, "tester", e.read("pins/s")["approved"].([]map[string]any)[0]["by"], "whoever has written trust_first")
	e.reportTools(toolText("twice", "three"))
	require.Len(t, e.pinRows("reported"), 3, "there is no first one of it")

	e.clock.Advance(time.Hour)
	require.Nil(t, e.read("pins/s")["trust_first_until"])
	e.reportTools(toolText("late", ""), toolText("a", "another"))
	require.Len(t, e.pinRows("approved"), 2)
	require.Contains(t, e.pinRows("reported"), "tool a "+digestOf(t, pin.Tool, toolText("a", "another"))+" changed")
	require.Empty(t, e.read("pins/s")["frozen"], "it has been there for an hour")
}

// A server that shows two texts of one name in the first hour has shown that nobody knows which
// one is right.
func TestASecondDefinitionInTheFirstHourFreezesTheName(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		second func(e *env)
	}{
		{"in one report", func(e *env) { e.reportTools(toolText("a", "one"), toolText("a", "two")) }},
		{"in another report", func(e *env) {
			e.reportTools(toolText("a", "one"))
			e.clock.Advance(59 * time.Minute)
			e.reportTools(toolText("a", "two"))
		}},
		{"after trust_first was stopped", func(e *env) {
			e.reportTools(toolText("a", "one"))
			e.write("pins/s", data{"trust_first": false})
			e.reportTools(toolText("a", "two"))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := pinnedEnv(t, "enforce")
			e.write("pins/s", data{"trust_first": true})
			e.reportTools(toolText("b", "one"))
			tc.second(e)
			one, two := digestOf(t, pin.Tool, toolText("a", "one")), digestOf(t, pin.Tool, toolText("a", "two"))
			require.Equal(t, []string{"tool b " + digestOf(t, pin.Tool, toolText("b", "one")) + " first seen"}, e.pinRows("approved"))
			require.ElementsMatch(t, []string{"tool a " + one + " new", "tool a " + two + " new"}, e.pinRows("reported"))
			require.Equal(t, []map[string]any{{"kind": "tool", "name": "a"}}, e.read("pins/s")["frozen"])
			require.Nil(t, e.read("pins/s")["trust_first_until"], "it ends for the server")
			require.Len(t, e.keys(pinTextPrefix), 3)
			e.reportTools(toolText("c", ""), toolText("b", "two"))
			require.Empty(t, e.pinRows("approved"), "b had two definitions in its first hour, too")

			// Frozen names stay so for the next hour of trust, until somebody approves one.
			e.write("pins/s", data{"forget_reported": true})
			require.Contains(t, strings.Join(e.write("pins/s", data{"trust_first": true}).Warnings, ""), "2 names are frozen")
			e.reportTools(toolText("a", "one"), toolText("c", ""))
			require.Equal(t, []string{"tool c " + digestOf(t, pin.Tool, toolText("c", "")) + " first seen"}, e.pinRows("approved"))
			e.write("pins/s", data{"approve": "a", "digest": one})
			require.Len(t, e.read("pins/s")["frozen"], 1)
			e.reportTools(toolText("a", "two"))
			require.Contains(t, e.pinRows("approved"), "tool a "+one, "a person's approval is not contradicted")
		})
	}
}

func TestAnApprovalConfirmsWhatWasFirstSeen(t *testing.T) {
	t.Parallel()
	e := pinnedEnv(t, "enforce")
	e.write("pins/s", data{"trust_first": true})
	text := toolText("a", "one")
	e.reportTools(text)
	require.Empty(t, e.watch(func() { e.write("pins/s", data{"approve": "a", "digest": digestOf(t, pin.Tool, text)}) }), "gateways have it already")
	e.reportTools(toolText("a", "two"))
	require.Equal(t, []string{"tool a " + digestOf(t, pin.Tool, text)}, e.pinRows("approved"))
}

func TestAWithdrawalEndsTrustFirst(t *testing.T) {
	t.Parallel()
	e := pinnedEnv(t, "enforce")
	e.write("pins/s", data{"trust_first": true})
	e.reportTools(toolText("a", "one"))
	require.Contains(t, e.write("pins/s", data{"withdraw": "a"}).Warnings[0], "trust_first has ended")
	e.reportTools(toolText("a", "one"), toolText("b", ""))
	require.Empty(t, e.pinRows("approved"))
	require.Contains(t, e.write("pins/s", data{"trust_first": true, "dry_run": true}).Warnings[1], "2 definitions that were reported before, withdrawn ones too")
}

// A gateway may say anything. Without somebody's word at pins/ it approves nothing.
func TestNoReportApprovesAnything(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(e *env){
		"nobody has written trust_first": func(*env) {},
		"its hour is over": func(e *env) {
			e.write("pins/s", data{"trust_first": true})
			e.clock.Advance(time.Hour)
		},
		"it was stopped": func(e *env) {
			e.write("pins/s", data{"trust_first": true})
			e.write("pins/s", data{"trust_first": false})
		},
		"it was for another place": func(e *env) {
			e.write("pins/s", data{"trust_first": true})
			e.write("servers/s", data{"url": "https://elsewhere.example.com/mcp"})
		},
		"pins were deleted": func(e *env) {
			e.write("pins/s", data{"trust_first": true})
			e.delete("pins/s")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := pinnedEnv(t, "enforce")
			prepare(e)
			for field, value := range map[string]any{"approve": "a", "trust_first": true, "digest": digestOf(t, pin.Tool, toolText("a", ""))} {
				definitions := []any{data{"kind": "tool", "text": toolText("a", "")}}
				e.refusedWrite("gateway/pins/s", data{"place": e.read("pins/s")["place"], "definitions": definitions, field: value})
			}
			require.EqualValues(t, 1, e.reportTools(toolText("a", ""))["kept"])
			require.Empty(t, e.pinRows("approved"))
		})
	}
}

func TestWhatIsNoReportIsRefused(t *testing.T) {
	t.Parallel()
	e := pinnedEnv(t, "enforce")
	place := e.read("pins/s")["place"]
	many := make([]any, maxPinReport+1)
	for i := range many {
		many[i] = data{"kind": "tool", "text": "{}"}
	}
	large := strings.Repeat("x", maxPinReportSize/2)
	for name, tc := range map[string]struct {
		data data
		say  string
	}{
		"no place":              {data{"definitions": []any{}}, "field place is missing"},
		"too many":              {data{"place": place, "definitions": many}, "at most 64"},
		"too large":             {data{"place": place, "definitions": []any{data{"kind": "tool", "text": large}, data{"kind": "tool", "text": large + "x"}}}, "at most 64"},
		"a list of texts":       {data{"place": place, "definitions": []any{"a", "b"}}, "is not a list of objects"},
		"a digest of its own":   {data{"place": place, "definitions": []any{data{"kind": "tool", "text": "{}", "digest": "sha256:"}}}, "is not a list of objects"},
		"an object, not a text": {data{"place": place, "definitions": []any{data{"kind": "tool", "text": data{}}}}, "is not a list of objects"},
	} {
		require.Contains(t, e.refusedWrite("gateway/pins/s", tc.data), tc.say, name)
	}

	// A definition that nobody can approve is no mistake of the gateway's.
	require.Equal(t, reportCounts(1, 0, 4, 0), e.reportTools(
		`{"name":"a","name":"b"}`, `{"description":"without a name"}`, `{"name":"n","x":1e400}`, "not JSON", toolText("good", "")))
	require.Equal(t, reportCounts(0, 0, 1, 0), e.reportKind("tools", toolText("a", "")))
	e.write("servers/s", data{"pin_kinds": "prompt"})
	require.Equal(t, reportCounts(0, 0, 1, 0), e.reportTools(toolText("b", "")))
	require.Equal(t, reportCounts(1, 0, 0, 0), e.reportKind(pin.Prompt, `{"name":"p"}`))
	e.write("servers/s", data{"pin": "off"})
	require.Equal(t, reportCounts(0, 0, 1, 0), e.reportKind(pin.Prompt, `{"name":"q"}`))
	require.Equal(t, reportCounts(0, 0, 1, 0), e.write("gateway/pins/gone", data{"place": place, "definitions": []any{data{"kind": "tool", "text": toolText("a", "")}}}).Data)
	require.Empty(t, e.keys(pinTextPrefix+"gone"))
	require.Len(t, e.pinRows("reported"), 2)
}

func TestReportsAreBoundedAndWriteNothingBeyond(t *testing.T) {
	t.Parallel()
	storage := newWeighedStorage()
	e := newEnvOn(t, storage, newClock())
	e.write("servers/s", data{"transport": "http", "url": "https://s.example.com/mcp", "pin": "enforce"})
	place := e.read("pins/s")["place"]
	report := func(texts []any) data {
		return e.write("gateway/pins/s", data{"place": place, "definitions": texts}).Data
	}
	var full int64
	lost := 0
	for batch := range 10_000/maxPinReport + 1 {
		var texts []any
		for i := range maxPinReport {
			n := batch*maxPinReport + i
			texts = append(texts, data{"kind": "tool", "text": toolText(fmt.Sprint("<<<", n/(maxReportedAlike+1)), fmt.Sprint(n))})
		}
		lost += report(texts)["lost"].(int)
		if batch == 10 {
			full = storage.puts.Load()
		}
	}
	require.Equal(t, full, storage.puts.Load(), "beyond the bounds it writes")
	rows := e.pinRows("reported")
	require.Len(t, rows, maxReported)
	alike := map[string]int{}
	for _, row := range rows {
		name := strings.Fields(row)[1]
		if alike[name]++; alike[name] > maxReportedAlike {
			t.Fatalf("%d of the name %s", alike[name], name)
		}
	}
	require.EqualValues(t, lost, e.read("pins/s")["lost"])
	require.Len(t, e.keys(pinTextPrefix), maxReported)
	require.Less(t, storage.largest.Load(), int64(512<<10))

	e.write("pins/s", data{"forget_reported": true})
	require.EqualValues(t, 0, e.read("pins/s")["lost"])
	require.EqualValues(t, 1, report([]any{data{"kind": "tool", "text": toolText("now", "")}})["kept"])
}

func TestTextsThatAreReportedAreBounded(t *testing.T) {
	t.Parallel()
	e := pinnedEnv(t, "observe")
	text := func(i int) string {
		return toolText(fmt.Sprint(i), strings.Repeat("x", maxPinText-len(toolText(fmt.Sprint(i), ""))))
	}
	kept := 0
	for i := range 20 {
		kept += e.reportTools(text(i))["kept"].(int)
	}
	require.Equal(t, maxReportedTexts/maxPinText, kept)
	require.Equal(t, reportCounts(1, 0, 0, 0), e.reportTools(toolText("long", strings.Repeat("x", maxPinText))), "of a longer one there is no text to keep")
	require.EqualValues(t, 20-kept, e.read("pins/s")["lost"])
}

// The longest names that servers can choose, in the form that takes most room in JSON.
func TestAnIndexFitsIntoAnEntryOfStorage(t *testing.T) {
	t.Parallel()
	storage := newWeighedStorage()
	e := newEnvOn(t, storage, newClock())
	e.write("servers/s", data{"transport": "http", "url": "https://s.example.com/mcp", "pin": "enforce"})
	name := func(i int) string { return fmt.Sprint(i) + strings.Repeat("<", pin.MaxName-8) }
	var refusal string
	for i := 0; refusal == ""; i++ {
		require.Less(t, i, maxApproved)
		resp, err := e.request(context.Background(), logical.UpdateOperation, "pins/s",
			data{"approve": name(i), "digest": digestOf(t, pin.Tool, toolText("a", ""))})
		require.NoError(t, err)
		if resp.IsError() {
			refusal = resp.Error().Error()
		}
	}
	require.Contains(t, refusal, "bytes long")
	e.write("pins/s", data{"trust_first": true})
	for i := range 40 {
		e.reportTools(toolText(name(1000+i), ""), toolText(fmt.Sprint("short ", i), ""))
	}
	require.Less(t, storage.largest.Load(), int64(512<<10))
	require.Greater(t, storage.largest.Load(), int64(400<<10), "the test reaches the bounds")

	e.delete("pins/s")
	rows := make([]any, maxApproved)
	for i := range rows {
		rows[i] = data{"kind": "tool", "name": fmt.Sprint("tool-", i), "digest": digestOf(t, pin.Tool, toolText("a", ""))}
	}
	e.write("pins/s", data{"definitions": rows})
	require.Contains(t, e.refusedWrite("pins/s", data{"approve": "more", "digest": digestOf(t, pin.Tool, toolText("a", ""))}), "1024 at most")
	for i := range maxApprovedAlike - 1 {
		e.write("pins/s", data{"withdraw": fmt.Sprint("tool-", i+1)})
		e.write("pins/s", data{"approve": "tool-0", "digest": digestOf(t, pin.Tool, toolText("a", fmt.Sprint(i)))})
	}
	e.write("pins/s", data{"withdraw": "tool-100"})
	require.Contains(t, e.refusedWrite("pins/s", data{"approve": "tool-0", "digest": digestOf(t, pin.Tool, toolText("a", "more"))}), "more than 8 approvals")
}

// A text is written before the index that names it. A text without an index, after a crash in between, is nobody's.
func TestTidyRemovesTextsThatNothingNames(t *testing.T) {
	t.Parallel()
	e := pinnedEnv(t, "enforce")
	kept := toolText("kept", "")
	e.reportTools(kept)
	digest, err := pin.ParseDigest(digestOf(t, pin.Tool, toolText("orphan", "")))
	require.NoError(t, err)
	for _, key := range []string{pinTextKey("s", digest), pinTextKey("gone", digest), pinTextPrefix + "s/odd"} {
		require.NoError(t, e.storage.Put(context.Background(), &logical.StorageEntry{Key: key, Value: []byte("{}")}))
	}
	e.tidyToEnd()
	require.Len(t, e.keys(pinTextPrefix), 1)
	require.Len(t, e.must(logical.ReadOperation, "pins/s", data{"texts": true}).Data["reported"].([]map[string]any)[0]["text"], len(kept))
}
