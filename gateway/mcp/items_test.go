package mcp

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// docs are rules about prompts and resources.
var docs = policy.Lists{
	AllowedPrompts: []string{"up/greet", "up/team-*"}, DeniedPrompts: []string{"up/team-secret"},
	AllowedResources: []string{"up/file:///srv/docs/*", "up/db://rows/7", "up/ui://board/*"},
	DeniedResources:  []string{"up/file:///srv/docs/secret*"},
}

// ask is a request with those params.
func ask(method, params string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"` + method + `","params":` + params + `}`
}

// Answers to what the rules do not let pass.
const (
	noPrompt   = `"id":7,"error":{"code":-32602,"message":"This prompt is not available to this client."`
	noResource = `"id":7,"error":{"code":-32602,"message":"This resource is not available to this client."`
	noOne      = `"id":7,"error":{"code":-32602,"message":"The params do not name one prompt or resource."`
)

func TestRulesDecideOnPromptsAndResources(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	g := newGateway(t, testConfig(), registration(up))
	g.grants["alice"] = grantWith(t, "alice", docs)
	read := func(uri string) string { return ask("resources/read", `{"uri":"`+uri+`"}`) }
	complete := func(ref string) string {
		return ask("completion/complete", `{"ref":`+ref+`,"argument":{"name":"x","value":"y"}}`)
	}
	tests := map[string]struct{ body, want string }{ // want is "" if the server is reached
		"a prompt that is allowed":   {ask("prompts/get", `{"name":"greet"}`), ""},
		"one of a pattern":           {ask("prompts/get", `{"name":"team-a"}`), ""},
		"a prompt that is not":       {ask("prompts/get", `{"name":"other"}`), noPrompt},
		"a prompt that is denied":    {ask("prompts/get", `{"name":"team-secret"}`), noPrompt},
		"a prompt in other case":     {ask("prompts/get", `{"name":"Greet"}`), noPrompt},
		"a prompt in escapes":        {ask("prompts\\/get", `{"n\u0061me":"team-s\u0065cret"}`), noPrompt},
		"a prompt as a notification": {`{"jsonrpc":"2.0","method":"prompts/get","params":{"name":"other"}}`, "nothing"},
		"tools go by the server":     {callOther, ""},
		"a method nobody knows":      {ask("vendor/read", `{"uri":"file:///srv/docs/a"}`), `"code":-32601`},
		"a list of prompts":          {ask("prompts/list", `{}`), ""},
		"a list of templates":        {ask("resources/templates/list", `{"cursor":"x"}`), ""},

		"a resource that is allowed":        {read("file:///srv/docs/a.md"), ""},
		"one that is named":                 {read("db://rows/7"), ""},
		"a scheme in capitals":              {read("FILE:///srv/docs/a.md"), ""},
		"escapes that are not needed":       {read("file:///srv/docs/%61.md"), ""},
		"a page of an app":                  {read("ui://board/main"), ""},
		"a resource that is not":            {read("file:///etc/passwd"), noResource},
		"another resource of the prefix":    {read("db://rows/77"), noResource},
		"the folder itself":                 {read("file:///srv/docs"), noResource},
		"a resource that is denied":         {read("file:///srv/docs/secret.md"), noResource},
		"the same in capitals":              {read("file:///srv/docs/SECRET.md"), noResource},
		"the same with escapes":             {read("file:///srv/docs/%73ecret.md"), noResource},
		"with escapes in lower case":        {read("file:///srv/docs/%5fsecret/%2e%2e/x"), noResource},
		"with JSON escapes":                 {read(`file:\/\/\/srv\/docs\/\u0073ecret.md`), noResource},
		"with a query":                      {read("file:///srv/docs/secret?x"), noResource},
		"with a fragment":                   {read("file:///srv/docs/secret#x"), noResource},
		"dots that lead there":              {read("file:///srv/docs/x/../secret"), noResource},
		"dots that lead out":                {read("file:///srv/docs/../../etc/passwd"), noResource},
		"dots in escapes":                   {read("file:///srv/docs/%2e%2e/%2e%2e/etc/passwd"), noResource},
		"dots in escapes of escapes":        {read("file:///srv/docs/%252e%252e/%252e%252e/etc/passwd"), noResource},
		"a dot":                             {read("file:///srv/docs/./a"), noResource},
		"a slash in escapes":                {read("file:///srv/docs/..%2fetc"), noResource},
		"a backslash":                       {read(`file:///srv/docs\\..\\..\\etc`), noResource},
		"a backslash in escapes":            {read("file:///srv/docs/%5c..%5cetc"), noResource},
		"an empty part":                     {read("file:///srv/docs//secret.md"), noResource},
		"a slash less":                      {read("file:/srv/docs/a.md"), noResource},
		"a host that is this one":           {read("file://localhost/srv/docs/secret.md"), noResource},
		"an escape of nothing":              {read("file:///srv/docs/%zz"), noResource},
		"half an escape":                    {read("file:///srv/docs/a%"), noResource},
		"an escaped NUL":                    {read("file:///srv/docs/a%00.md"), noResource},
		"a NUL":                             {read(`file:///srv/docs/a\u0000.md`), noResource},
		"a line break":                      {read(`file:///srv/docs/a\n`), noResource},
		"a space before":                    {read(" file:///srv/docs/a.md"), noResource},
		"no scheme":                         {read("/srv/docs/a.md"), noResource},
		"nothing":                           {read(""), noResource},
		"a template that was not expanded":  {read("file:///srv/{name}"), noResource},
		"the URI and another one as a name": {ask("resources/read", `{"name":"file:///srv/docs/a","uri":"file:///etc/passwd"}`), noResource},
		"two URIs":                          {ask("resources/read", `{"uri":"file:///srv/docs/a","uri":"file:///etc/passwd"}`), "has a key twice"},
		"two URIs in two spellings":         {ask("resources/read", `{"uri":"file:///srv/docs/a","URI":"file:///etc/passwd"}`), "resembles"},

		"a subscription":                      {ask("resources/subscribe", `{"uri":"file:///srv/docs/a.md"}`), ""},
		"its end":                             {ask("resources/unsubscribe", `{"uri":"file:///srv/docs/a.md"}`), ""},
		"a subscription to a denied one":      {ask("resources/subscribe", `{"uri":"file:///srv/docs/secret.md"}`), noResource},
		"the end of one":                      {ask("resources/unsubscribe", `{"uri":"file:///srv/docs/secret.md"}`), noResource},
		"a subscription to dots":              {ask("resources/subscribe", `{"uri":"file:///srv/docs/../secret.md"}`), noResource},
		"a subscription to nothing":           {ask("resources/subscribe", `{}`), noResource},
		"a subscription to a list":            {ask("resources/subscribe", `{"uri":["file:///srv/docs/secret.md"]}`), noResource},
		"a subscription with half a pair":     {ask("resources/subscribe", `{"uri":"file:///srv/docs/\ud800"}`), noResource},
		"a subscription that wants no answer": {`{"jsonrpc":"2.0","method":"resources/subscribe","params":{"uri":"file:///etc/passwd"}}`, "nothing"},

		"a completion for a prompt":           {complete(`{"type":"ref/prompt","name":"greet"}`), ""},
		"for a template":                      {complete(`{"type":"ref/resource","uri":"file:///srv/docs/{name}"}`), ""},
		"for a template that may lead there":  {complete(`{"type":"ref/resource","uri":"file:///{+path}"}`), ""},
		"for a resource":                      {complete(`{"type":"ref/resource","uri":"db://rows/7"}`), ""},
		"for a denied prompt":                 {complete(`{"type":"ref/prompt","name":"team-secret"}`), noPrompt},
		"for a denied template":               {complete(`{"type":"ref/resource","uri":"file:///srv/docs/secret/{name}"}`), noResource},
		"for a template that is not allowed":  {complete(`{"type":"ref/resource","uri":"s3://{bucket}"}`), noResource},
		"for a denied prompt of another type": {complete(`{"type":"ref/resource","name":"team-secret"}`), noPrompt},
		"for a prompt and a resource":         {complete(`{"type":"ref/prompt","name":"greet","uri":"s3://a"}`), noOne},
		"for nothing":                         {complete(`{"type":"ref/prompt"}`), noOne},
		"for a list of prompts":               {complete(`{"type":"ref/prompt","name":["team-secret"]}`), noOne},
		"for something that is no reference":  {complete(`"team-secret"`), noOne},
		"for half a pair":                     {complete(`{"type":"ref/prompt","name":"\ud800"}`), noPrompt},
		"for two references":                  {ask("completion/complete", `{"ref":{"type":"ref/prompt","name":"greet"},"Ref":{"type":"ref/prompt","name":"other"}}`), "resembles"},

		"a stream with resources":       {ask("subscriptions/listen", `{"notifications":{"resourceSubscriptions":["file:///srv/docs/a.md","db://rows/7"]}}`), ""},
		"a stream without":              {ask("subscriptions/listen", `{"notifications":{"toolsListChanged":true}}`), ""},
		"a stream with a denied one":    {ask("subscriptions/listen", `{"notifications":{"resourceSubscriptions":["db://rows/7","file:///etc/passwd"]}}`), noResource},
		"a stream with an unclear one":  {ask("subscriptions/listen", `{"notifications":{"resourceSubscriptions":["db://rows/7/../8"]}}`), noResource},
		"a stream with what is no list": {ask("subscriptions/listen", `{"notifications":{"resourceSubscriptions":"file:///etc/passwd"}}`), noOne},
		"a stream with two lists":       {ask("subscriptions/listen", `{"notifications":{"resourceSubscriptions":[],"resourcesubscriptions":["file:///etc/passwd"]}}`), noOne},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := up.Count()
			got := g.Ask(t, test.body)
			switch test.want {
			case "":
				require.Equal(t, before+1, up.Count(), got.Body)
				return
			case "nothing":
				require.Equal(t, http.StatusAccepted, got.Status)
				require.Empty(t, got.Body)
			default:
				require.Contains(t, got.Body, test.want)
			}
			require.Equal(t, before, up.Count(), "the server was touched")
			g.grants["alice"], g.grants["bob"] = g.grants["bob"], g.grants["alice"]
			defer func() { g.grants["alice"], g.grants["bob"] = g.grants["bob"], g.grants["alice"] }()
			if !strings.Contains(test.want, "key") && !strings.Contains(test.want, "resembles") {
				g.Ask(t, test.body)
				require.Equal(t, before+1, up.Count(), "without rules it passes")
			}
		})
	}
	require.Contains(t, g.sink.all(), "refused prompt-not-allowed")
	require.Contains(t, g.sink.all(), "refused resource-not-allowed")
}

func TestRulesAboutOneKindLeaveTheOthersAlone(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	g := newGateway(t, testConfig(), registration(up))
	bodies := map[string]string{
		"prompt":                     ask("prompts/get", `{"name":"x"}`),
		"resource":                   ask("resources/read", `{"uri":"a://b/../c"}`),
		"tool":                       callOther,
		"none of a completion":       ask("completion/complete", `{"ref":{}}`),
		"prompt of a completion":     ask("completion/complete", `{"ref":{"type":"ref/prompt","name":"x"}}`),
		"resource of a completion":   ask("completion/complete", `{"ref":{"type":"ref/resource","uri":"a://b/../c"}}`),
		"resource of a stream":       ask("subscriptions/listen", `{"notifications":{"resourceSubscriptions":["a://b/../c"]}}`),
		"resource of a subscription": ask("resources/subscribe", `{"uri":5}`),
	}
	for kind, lists := range map[string]policy.Lists{
		"tool": {AllowedTools: []string{}}, "prompt": {AllowedPrompts: []string{}}, "resource": {AllowedResources: []string{}},
	} {
		g.grants["alice"] = grantWith(t, "alice", lists)
		for name, body := range bodies {
			t.Run(name+", with rules about a "+kind, func(t *testing.T) {
				before := up.Count()
				g.Ask(t, body)
				refused := strings.HasPrefix(name, kind) || strings.HasPrefix(name, "none") && kind != "tool"
				require.Equal(t, refused, up.Count() == before)
			})
		}
	}
}

func TestAuditNamesWhatAMessageNames(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	g := newGateway(t, testConfig(), registration(up))
	long := "file:///" + strings.Repeat("x", 500)
	for name, test := range map[string]struct{ body, want string }{
		"a prompt":                    {ask("prompts/get", `{"name":"greet"}`), "prompt=greet"},
		"a resource":                  {ask("resources/read", `{"uri":"file:///a"}`), "resource=file:///a"},
		"a subscription":              {ask("resources/subscribe", `{"uri":"file:\/\/\/b"}`), "resource=file:///b"},
		"a completion for a prompt":   {ask("completion/complete", `{"ref":{"type":"ref/prompt","name":"p"}}`), "prompt=p"},
		"a completion for a template": {ask("completion/complete", `{"ref":{"type":"ref/resource","uri":"t://{x}"}}`), "resource=t://{x}"},
		"a long URI":                  {ask("resources/read", `{"uri":"`+long+`"}`), "resource=" + long[:128] + "…"},
		"a URI with a query":          {ask("resources/read", `{"uri":"https://h/a?sig=hush"}`), "resource=https://h/a?…"},
		"a URI with a password":       {ask("resources/read", `{"uri":"db://me:hush@h/a"}`), "resource=db://…@h/a"},
		"a URI in another one":        {ask("resources/read", `{"uri":"mcp://s/db://me:hush@h/a"}`), "resource=mcp://s/db://…@h/a"},
	} {
		t.Run(name, func(t *testing.T) {
			g.Ask(t, test.body)
			require.Contains(t, g.sink.named(), test.want)
			require.NotContains(t, fmt.Sprint(g.sink.named()), "hush")
		})
	}
}

const (
	updateOfAllowed = `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///srv/docs/a.md"}}`
	updateOfDenied  = `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///srv/docs/secret.md"}}`
)

func TestUpdatesOfDeniedResourcesAreDroppedFromStreams(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, "id: 1\ndata: %s\n\nid: 2\r\ndata: %s\r\n\r\nid: 3\ndata: %s\n\n", updateOfAllowed, updateOfDenied, updateOfAllowed)
	})
	g := newGateway(t, testConfig(), registration(up))
	whole := g.Ask(t, "", ":method", "GET").Body
	require.Contains(t, whole, updateOfDenied, "without rules")
	g.grants["alice"] = grantWith(t, "alice", docs)
	got := g.Ask(t, "", ":method", "GET").Body
	require.Equal(t, strings.Replace(whole, "id: 2\r\ndata: "+updateOfDenied+"\r\n\r\n", "", 1), strings.Replace(got, "\n\n\nid: 3", "\n\nid: 3", 1))
}

func TestAnUpdateOfADeniedResourceIsNoAnswer(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) { gatewaytest.Reply(w, updateOfDenied) })
	g := newGateway(t, testConfig(), registration(up))
	g.grants["alice"] = grantWith(t, "alice", docs)
	got := g.Ask(t, ping)
	require.Equal(t, http.StatusBadGateway, got.Status)
	require.NotContains(t, got.Body, "secret")
}

func TestListsOfPromptsAndResourcesAreFiltered(t *testing.T) {
	for method, test := range map[string]struct{ all, left string }{
		"prompts/list":             {`"prompts":[{"name":"greet"},{"name":"team-secret"}]`, `"prompts":[{"name":"greet"}]`},
		"resources/list":           {`"resources":[{"uri":"file:///etc/passwd"},{"uri":"db://rows/7"}],"nextCursor":"2"`, `"resources":[{"uri":"db://rows/7"}],"nextCursor":"2"`},
		"resources/templates/list": {`"resourceTemplates":[{"uriTemplate":"s3://{b}"},{"uriTemplate":"file:///srv/docs/{n}"}]`, `"resourceTemplates":[{"uriTemplate":"file:///srv/docs/{n}"}]`},
	} {
		for media, wrap := range map[string]func(string) string{
			"application/json": func(result string) string { return `{"jsonrpc":"2.0","id":7,"result":{` + result + `}}` },
			"text/event-stream": func(result string) string {
				return "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{" + result + "}}\n\n"
			},
		} {
			t.Run(method+" as "+media, func(t *testing.T) {
				up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", media)
					_, _ = io.WriteString(w, wrap(test.all))
				})
				g := newGateway(t, testConfig(), registration(up))
				require.Equal(t, wrap(test.all), g.Ask(t, ask(method, `{}`)).Body)
				g.grants["alice"] = grantWith(t, "alice", docs)
				require.Equal(t, wrap(test.left), g.Ask(t, ask(method, `{"cursor":"another"}`)).Body)
			})
		}
	}
}

func TestRulesCountForServersOnStdio(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, ""))
	g.grants["alice"] = grantWith(t, "alice", policy.Lists{DeniedResources: []string{"*/file:///srv/docs/secret*"}, DeniedPrompts: []string{"*/secret"}})
	session := g.open(t, "alice")
	require.Contains(t, g.Ask(t, ask("resources/read", `{"uri":"file:///srv/docs/secret"}`), session...).Body, noResource)
	require.Contains(t, g.Ask(t, ask("prompts/get", `{"name":"secret"}`), session...).Body, noPrompt)
	require.NotContains(t, g.Ask(t, ask("resources/read", `{"uri":"file:///srv/docs/a"}`), session...).Body, "not available")
	requireUpdatesOfAllowed(t, g, session)
}

// requireUpdatesOfAllowed has the server on stdio tell of a resource that the client may not have,
// and of one that it may.
func requireUpdatesOfAllowed(t *testing.T, g *gateway, session []string) {
	t.Helper()
	r, err := g.Do(t.Context(), "", append(session, ":method", "GET")...)
	require.NoError(t, err)
	defer r.Body.Close()
	for _, update := range []string{"file:///srv/docs/secret.md", "file:///srv/docs/a.md"} {
		require.Contains(t, g.Ask(t, ask("tools/call", `{"name":"update","arguments":"`+update+`"}`), session...).Body, "done")
	}
	require.Equal(t, updateOfAllowed, events(t, r.Body, 1)[0])
}

func BenchmarkRulesOfAMessage(b *testing.B) {
	g := grantWith(b, "alice", docs)
	rules := g.Rules("up")
	body := []byte(ask("resources/read", `{"uri":"file:///srv/docs/handbook/onboarding.md"}`))
	m, err := ParseMessage(body)
	require.NoError(b, err)
	x := &exchange{rules: rules, message: m.Envelope, body: &buffer{data: bytes.Clone(body)}, request: &access.Request{}, grant: g}
	b.ReportAllocs()
	for b.Loop() {
		if x.rule() != nil {
			b.Fatal("refused")
		}
	}
}
