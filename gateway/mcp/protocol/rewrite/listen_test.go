package rewrite

import (
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

func readListen(t *testing.T, params string) (Listen, error) {
	t.Helper()
	message := []byte(request("subscriptions/listen", params))
	e, err := envelope.Parse(message)
	require.NoError(t, err)
	return ReadListen(&e, message)
}

func TestReadListenTellsWhatIsAskedOfWhichServer(t *testing.T) {
	tests := map[string]struct {
		params string
		want   Listen
	}{
		"nothing": {`{}`, Listen{}},
		"null":    {`null`, Listen{}},
		"all lists": {
			`{"_meta":{},"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}}`,
			Listen{ToolsListChanged: true, PromptsListChanged: true, ResourcesListChanged: true},
		},
		"a list that is not wanted": {`{"notifications":{"toolsListChanged":false,"promptsListChanged":"true"}}`, Listen{}},
		"resources of two servers": {
			`{"notifications":{"x":{},"resourceSubscriptions":["mcp://a/b:c", "mcpj://res/files/ZmlsZTovLy9h" ,"mcp:\/\/a\/d"]}}`,
			Listen{Resources: []Resource{{"a", "b:c"}, {"files", "file:///a"}, {"a", "d"}}},
		},
		"tasks of two servers, and of none": {
			`{"notifications":{"taskIds":["a__x__y","files___z","x",5,"__x","a__"]}}`,
			Listen{Tasks: []Task{{"a", "x__y"}, {"files", "_z"}}},
		},
		"a page of an app":                  {`{"notifications":{"resourceSubscriptions":["ui://a/b/c"]}}`, Listen{Resources: []Resource{{"a", "ui://b/c"}}}},
		"resources of no server":            {`{"notifications":{"resourceSubscriptions":["file:///a",5,null,"mcp://a/\ud800"]}}`, Listen{}},
		"subscriptions that are not a list": {`{"notifications":{"resourceSubscriptions":"mcp://a/b"}}`, Listen{}},
		"notifications that are a list":     {`{"notifications":["toolsListChanged"]}`, Listen{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := readListen(t, test.params)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestReadListenRefusesWhatCouldBeReadInTwoWays(t *testing.T) {
	for name, params := range map[string]string{
		"one in capitals":              `{"Notifications":{"toolsListChanged":true}}`,
		"two flags":                    `{"notifications":{"toolsListChanged":false,"toolsListChanged":true}}`,
		"a flag in capitals":           `{"notifications":{"toolslistchanged":true}}`,
		"subscriptions up to a NUL":    `{"notifications":{"resourceSubscriptions\u0000":["mcp://a/b"]}}`,
		"subscriptions behind a space": `{"notifications":{" resourceSubscriptions":["mcp://a/b"]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readListen(t, params)
			require.ErrorIs(t, err, jsonscan.ErrAmbiguous)
		})
	}
}

func TestSubscriptionsTellsEveryResourceOrNone(t *testing.T) {
	tests := map[string]struct {
		params string
		want   []string // nil: an error
	}{
		"none":                           {`{}`, []string{}},
		"no params":                      {`null`, []string{}},
		"lists alone":                    {`{"notifications":{"toolsListChanged":true}}`, []string{}},
		"null":                           {`{"notifications":{"resourceSubscriptions":null}}`, []string{}},
		"two":                            {`{"notifications":{"taskIds":["x"],"resourceSubscriptions":["file:///a","s3:\/\/b"]}}`, []string{"file:///a", "s3://b"}},
		"something else than a string":   {`{"notifications":{"resourceSubscriptions":["file:///a",{"uri":"s3://b"}]}}`, nil},
		"null among them":                {`{"notifications":{"resourceSubscriptions":["file:///a",null]}}`, nil},
		"half a surrogate pair":          {`{"notifications":{"resourceSubscriptions":["s3://\ud800"]}}`, nil},
		"a string that is not a list":    {`{"notifications":{"resourceSubscriptions":"s3://b"}}`, nil},
		"an object that is not a list":   {`{"notifications":{"resourceSubscriptions":{"0":"s3://b"}}}`, nil},
		"a second list":                  {`{"notifications":{"resourceSubscriptions":[],"resourceSubscriptions":["s3://b"]}}`, nil},
		"a second list in capitals":      {`{"notifications":{"resourceSubscriptions":[],"ResourceSubscriptions":["s3://b"]}}`, nil},
		"a second object in capitals":    {`{"notifications":{},"Notifications":{"resourceSubscriptions":["s3://b"]}}`, nil},
		"a list behind a space":          {`{"notifications":{"resourceSubscriptions ":["s3://b"]}}`, nil},
		"a key with a control character": {`{"notifications":{"x\u0000":["s3://b"]}}`, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			message := []byte(request("subscriptions/listen", test.params))
			e, err := envelope.Parse(message)
			require.NoError(t, err)
			got, err := Subscriptions(&e, message)
			if test.want == nil {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.ElementsMatch(t, test.want, got)
		})
	}
}
