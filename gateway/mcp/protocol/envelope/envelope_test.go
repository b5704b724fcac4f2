package envelope

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"message":"hi"}}}`

func TestParseReadsWhatDecisionsAreMadeOn(t *testing.T) {
	tests := map[string]struct {
		message string
		want    Envelope // but for the spans, and Names
		id      string
	}{
		"a call": {
			message: call,
			want:    Envelope{Kind: Request, Method: "tools/call", Name: "echo"}, id: "7",
		},
		"a call whose params come first": {
			message: `{"params":{"arguments":{},"name":"echo"},"method":"tools/call","id":"a","jsonrpc":"2.0"}`,
			want:    Envelope{Kind: Request, Method: "tools/call", Name: "echo"}, id: `"a"`,
		},
		"escapes in keys and values": {
			message: `{"jsonrpc":"2\u002e0","\u0069d":1,"meth\u006fd":"tools\/call","p\u0061rams":{"n\u0061me":"\ud83d\ude00"}}`,
			want:    Envelope{Kind: Request, Method: "tools/call", Name: "😀"}, id: "1",
		},
		"a resource": {
			message: `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a","name":"b"}}`,
			want:    Envelope{Kind: Request, Method: "resources/read", Name: "file:///a"}, id: "1",
		},
		"a name that means nothing to the method": {
			message: `{"jsonrpc":"2.0","id":1,"method":"vendor/x","params":{"name":{"first":"a"},"uri":5}}`,
			want:    Envelope{Kind: Request, Method: "vendor/x"}, id: "1",
		},
		"a subscription without a URI, which the server answers itself": {
			message: `{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{}}`,
			want:    Envelope{Kind: Request, Method: "resources/subscribe"}, id: "1",
		},
		"a version in _meta": {
			message: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`,
			want:    Envelope{Kind: Request, Method: "tools/list", Version: "2026-07-28"}, id: "1",
		},
		"a _meta that is not an object, which the server refuses itself": {
			message: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":[]}}`,
			want:    Envelope{Kind: Request, Method: "tools/list"}, id: "1",
		},
		"params that are null": {
			message: `{"jsonrpc":"2.0","id":1,"method":"ping","params":null}`,
			want:    Envelope{Kind: Request, Method: "ping"}, id: "1",
		},
		"a big id keeps its digits": {
			message: `{"jsonrpc":"2.0","id":12345678901234567890.5e3,"method":"ping"}`,
			want:    Envelope{Kind: Request, Method: "ping"}, id: "12345678901234567890.5e3",
		},
		"a notification": {
			message: `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
			want:    Envelope{Kind: Notification, Method: "notifications/initialized"},
		},
		"a result": {
			message: `{"jsonrpc":"2.0","id":"s-1","result":{"roots":[],"Roots":1}}`,
			want:    Envelope{Kind: Response}, id: `"s-1"`,
		},
		"a result that is not an object": {
			message: `{"jsonrpc":"2.0","id":1,"result":[1]}`,
			want:    Envelope{Kind: Response}, id: "1",
		},
		"an error": {
			message: `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}`,
			want:    Envelope{Kind: Response, Failed: true, ErrorCode: -32601}, id: "1",
		},
		"an error for a message that could not be read": {
			message: `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}`,
			want:    Envelope{Kind: Response, Failed: true, ErrorCode: -32700}, id: "null",
		},
		"unknown members": {
			message: `{"jsonrpc":"2.0","id":1,"method":"ping","vendor":{"id":2,"id":3},"x":[{"method":"y"}]}`,
			want:    Envelope{Kind: Request, Method: "ping"}, id: "1",
		},
		"anything in the arguments": {
			message: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"name":"b","NAME":"c","name":"d"}}}`,
			want:    Envelope{Kind: Request, Method: "tools/call", Name: "a"}, id: "1",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Parse([]byte(test.message))
			require.NoError(t, err)
			require.Equal(t, test.id, string(got.IDOf([]byte(test.message))))
			got.ID, got.NameAt, got.URI, got.Params, got.Names = Span{}, Span{}, Span{}, Span{}, false
			require.Equal(t, test.want, got)
		})
	}
}

func TestAMessageThatMayNameAResourceOrATaskIsKnown(t *testing.T) {
	for members, names := range map[string]bool{
		`"content":[{"type":"text","text":"\"uri\":1"}]`:           false,
		`"a":{"b":[{"title":1},{"tasks":"taskId"}]},"resources":0`: false,
		`"":0`:                          false,
		`"a":{"b":[0,{"c":{"uri":1}}]}`: true,
		`"taskId":"x"`:                  true,
		`"_meta":{"ui":{"resourceUri":"ui://a"}}`:          true,
		`"_meta":{"ui/resourceUri":0}`:                     true,
		`"_meta":{"openai/outputTemplate":0}`:              true,
		`"a":[{"URI":0}]`:                                  true,
		`"a":[{" uri":0}]`:                                 true,
		`"a":[{"ur\u0069":0}]`:                             true,
		`"a":[{"tas` + "\u212a" + `Id":0}]`:                true,
		`"a":[{"resource` + "\u017f" + `ubscriptions":0}]`: true,
	} {
		e, err := Parse([]byte(`{"jsonrpc":"2.0","id":1,"result":{` + members + `}}`))
		require.NoError(t, err, members)
		require.Equal(t, names, e.Names, members)
	}
}

func TestParseRefusesWhatCouldBeReadInTwoWays(t *testing.T) {
	params := func(members string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` + members + `}}`
	}
	meta := func(members string) string { return params(`"name":"echo","_meta":{` + members + `}`) }
	tests := map[string]string{
		"a second name in capitals, which Go's decoder prefers": params(`"name":"get-env","NAME":"echo"`),
		"a name in capitals before the true one":                params(`"Name":"echo","name":"get-env"`),
		"a batch":                                               `[` + call + `]`,
		"an empty batch":                                        `[]`,
		"a second name":                                         params(`"name":"echo","name":"get-env"`),
		"a second name, escaped":                                params(`"name":"echo","n\u0061me":"get-env"`),
		"a second document":                                     call + call,
		"a second document on its own line":                     call + "\n" + call,
		"data behind the document":                              call + "x",
		"a NUL behind the document":                             call + "\x00",
		"a byte order mark":                                     "\ufeff" + call,
		"METHOD beside method":                                  `{"jsonrpc":"2.0","id":1,"method":"ping","METHOD":"tools/call"}`,
		"METHOD instead of method":                              `{"jsonrpc":"2.0","id":1,"METHOD":"tools/call","params":{"name":"echo"}}`,
		"a second method":                                       `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`,
		"a second params":                                       `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"params":{"name":"get-env"}}`,
		"Params beside params":                                  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"Params":{"name":"get-env"}}`,
		"params with a long s":                                  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"paramſ":{"name":"get-env"}}`,
		"a second id":                                           `{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}`,
		"ID beside id":                                          `{"jsonrpc":"2.0","id":1,"ID":2,"method":"ping"}`,
		"a method with a NUL behind it":                         `{"jsonrpc":"2.0","id":1,"method":"ping","method\u0000":"tools/call"}`,
		"a name with a NUL behind it":                           params(`"name":"echo","name\u0000":"get-env"`),
		"a name with a NUL and more behind it":                  params(`"name":"echo","name\u0000x":"get-env"`),
		"a name with a space behind it":                         params(`"name":"echo","name ":"get-env"`),
		"a name with a no-break space before it":                params(`"name":"echo","\u00a0name":"get-env"`),
		"a key with a lone surrogate":                           params(`"name":"echo","\ud800":1`),
		"a name with a lone surrogate":                          params(`"name":"echo\udfff"`),
		"a method with a lone surrogate":                        `{"jsonrpc":"2.0","id":1,"method":"tools/call\ud800"}`,
		"a name that is a number":                               params(`"name":5`),
		"a name that is null":                                   params(`"name":null`),
		"a call without a name":                                 params(`"arguments":{}`),
		"a call without params":                                 `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`,
		"a call with a URI for a name":                          params(`"uri":"echo"`),
		"params that are an array":                              `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["echo"]}`,
		"params that are a string":                              `{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}`,
		"_META beside _meta":                                    params(`"name":"echo","_meta":{},"_META":{}`),
		"a second version":                                      meta(`"io.modelcontextprotocol/protocolVersion":"a","io.modelcontextprotocol/protocolVersion":"b"`),
		"a version in other case":                               meta(`"io.modelcontextprotocol/protocolversion":"2025-11-25"`),
		"a version with a Kelvin sign for a k":                  params(`"name":"e","_meta":{"progressTo` + "\u212a" + `en":1}`),
		"a version that is a number":                            meta(`"io.modelcontextprotocol/protocolVersion":2026`),
		"a second name in the ref":                              params(`"name":"e","ref":{"type":"ref/prompt","name":"a","name":"b"}`),
		"Name beside name in the ref":                           params(`"name":"e","ref":{"type":"ref/prompt","name":"a","Name":"b"}`),
		"a scalar":                                              `1`,
		"null":                                                  `null`,
		"nothing":                                               ``,
		"half a message":                                        call[:40],
		"invalid UTF-8":                                         params("\"name\":\"\xff\""),
		"an overlong NUL":                                       params("\"name\":\"\xc0\x80\""),
		"a comment":                                             `/*x*/` + call,
		"no version of JSON-RPC":                                `{"id":1,"method":"ping"}`,
		"another version of JSON-RPC":                           `{"jsonrpc":"1.0","id":1,"method":"ping"}`,
		"a version of JSON-RPC that is a number":                `{"jsonrpc":2.0,"id":1,"method":"ping"}`,
		"an id that is null":                                    `{"jsonrpc":"2.0","id":null,"method":"ping"}`,
		"an id that is an object":                               `{"jsonrpc":"2.0","id":{},"method":"ping"}`,
		"an id that is a boolean":                               `{"jsonrpc":"2.0","id":true,"method":"ping"}`,
		"a method that is a number":                             `{"jsonrpc":"2.0","id":1,"method":1}`,
		"an empty method":                                       `{"jsonrpc":"2.0","id":1,"method":""}`,
		"a request that is a response too":                      `{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`,
		"a response with a result and an error":                 `{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1}}`,
		"a response with neither":                               `{"jsonrpc":"2.0","id":1}`,
		"a response without an id":                              `{"jsonrpc":"2.0","result":{}}`,
		"a response with params":                                `{"jsonrpc":"2.0","id":1,"result":{},"params":{"name":"x"}}`,
		"too many members":                                      params(`"name":"e",` + manyMembers(maxMembers)),
		"nesting that breaks parsers":                           params(`"name":"e","arguments":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000)),
		"a control character that no parser lets by":            params("\"name\":\"e\x01\""),
		"a key of a meaningless control character":              params(`"name":"e","\u0001":1`),
		"an upper-case result beside a true response":           `{"jsonrpc":"2.0","id":1,"result":{},"Result":{}}`,
	}
	for name, message := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(message))
			var refused *Error
			require.ErrorAs(t, err, &refused)
			require.Contains(t, []int{protocol.CodeParseError, protocol.CodeInvalidRequest}, refused.Code)
			require.NotContains(t, refused.Reason, "get-env", "an error must not repeat what was sent")
		})
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"k` + strconv.Itoa(i) + `":1`)
	}
	return b.String()
}

func TestErrorsCarryTheIDWhereItWasRead(t *testing.T) {
	message := []byte(`{"jsonrpc":"2.0","id":"abc","method":"ping","method":"ping"}`)
	_, err := Parse(message)
	var refused *Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, `"abc"`, string(refused.ID.Of(message)))

	_, err = Parse([]byte(`{"method":"ping","method":"ping"}`))
	require.ErrorAs(t, err, &refused)
	require.True(t, refused.ID.None())
}

func TestSpansStandWhereTheBridgeTranslates(t *testing.T) {
	message := []byte(`{"jsonrpc":"2.0","id": 5 ,"method":"notifications/x","params":{"requestId":"r","progressToken":7,` +
		`"uri":"u","_meta":{"progressToken":"p","io.modelcontextprotocol/subscriptionId":9}}}`)
	got, err := Parse(message)
	require.NoError(t, err)
	require.Equal(t, `5`, string(got.ID.Of(message)))
	require.Equal(t, `"r"`, string(got.RequestID.Of(message)))
	require.Equal(t, `7`, string(got.ProgressToken.Of(message)))
	require.Equal(t, `"p"`, string(got.MetaProgressToken.Of(message)))
	require.Equal(t, `9`, string(got.SubscriptionID.Of(message)))
	require.Equal(t, `"u"`, string(got.URI.Of(message)))
	require.Equal(t, byte('{'), got.Params.Of(message)[0])
	require.Equal(t, "}}", string(message[got.Params.End-1:]))

	message = []byte(`{"jsonrpc":"2.0","id":1,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":"x"}}}`)
	got, err = Parse(message)
	require.NoError(t, err)
	require.Equal(t, `"x"`, string(got.SubscriptionID.Of(message)))
}

func TestSpansStandWhereTheAggregateRenames(t *testing.T) {
	message := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name" : "a\u0062" ,"arguments":{"name":"x"}}}`)
	got, err := Parse(message)
	require.NoError(t, err)
	require.Equal(t, `"a\u0062"`, string(got.NameAt.Of(message)))
	require.True(t, got.RefName.None())

	message = []byte(`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name" :"p","uri": "u" },"argument":{"name":"n"}}}`)
	got, err = Parse(message)
	require.NoError(t, err)
	require.True(t, got.NameAt.None())
	require.Equal(t, `"p"`, string(got.RefName.Of(message)))
	require.Equal(t, `"u"`, string(got.RefURI.Of(message)))

	message = []byte(`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"name":5,"ref":{"name":["p"],"uri":null}}}`)
	got, err = Parse(message)
	require.NoError(t, err)
	require.True(t, got.NameAt.None() && got.RefName.None() && got.RefURI.None())
}

func TestParseAllocatesNoMoreThanTheName(t *testing.T) {
	message := []byte(call)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		if _, err := Parse(message); err != nil {
			t.Fatal(err)
		}
	}), 1.0)
}

func BenchmarkParse(b *testing.B) {
	for _, size := range []int{100, 2 << 10, 64 << 10} {
		text := `a line of text with a \"quote\" in it, and then some more of it\n`
		message := []byte(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"message":"` +
			strings.Repeat(text, size/len(text)) + `"}}}`)
		b.Run(strconv.Itoa(len(message))+" bytes", func(b *testing.B) {
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
