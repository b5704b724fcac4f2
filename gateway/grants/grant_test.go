package grants

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

func TestLookupAnswerIsReadStrictly(t *testing.T) {
	const active = `"active":true,"epoch":"e","index":7,"answered_at":"2026-01-02T03:04:05Z","client":"c","client_id":"id","accessor":"a","allowed_servers":["files"]`
	tests := map[string]struct {
		data string
		want string // part of the error; "" is none
	}{
		"an active token":                         {`{` + active + `}`, ""},
		"an inactive token":                       {`{"active":false,"epoch":"e","index":7}`, ""},
		"null tool rules":                         {`{` + active + `,"allowed_tools":null,"denied_tools":null}`, ""},
		"no field active":                         {`{"client":"c"}`, `no field "active"`},
		"active as a string":                      {`{"active":"true"}`, "does not follow the engine's API"},
		"servers that are not a list":             {`{"active":true,"allowed_servers":"files"}`, "does not follow the engine's API"},
		"no JSON":                                 {`nope`, "does not follow the engine's API"},
		"an active token without a client":        {`{"active":true,"client_id":"id","accessor":"a"}`, "without client"},
		"an active token without an accessor":     {`{"active":true,"client":"c","client_id":"id"}`, "without client"},
		"an expiry that is not a time":            {`{` + active + `,"expires_at":"tomorrow"}`, "expires_at"},
		"an expiry without the engine's clock":    {`{"active":true,"client":"c","client_id":"id","accessor":"a","expires_at":"2026-01-02T03:04:05Z"}`, "answered_at"},
		"a range of source addresses that is not": {`{` + active + `,"token_bound_cidrs":["10.0.0.0/33"]}`, "token_bound_cidrs"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l, err := vaultclient.ParseLookup([]byte(test.data))
			if err == nil && l.Active {
				_, err = NewGrant(l, time.Now())
			}
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
		})
	}
}

func grantOf(t *testing.T, data string) *Grant {
	t.Helper()
	l := vaultclient.Lookup{Active: true, Client: "c", ClientID: "id", Accessor: "a"}
	require.NoError(t, json.Unmarshal([]byte(data), &l))
	g, err := NewGrant(&l, time.Now())
	require.NoError(t, err)
	return g
}

func TestAllowListAdmitsRegisteredNamesOnly(t *testing.T) {
	tests := map[string]struct {
		servers string
		admits  []string
		refuses []string
	}{
		"names":             {`["github","files"]`, []string{"files", "github"}, []string{"", "file", "filesx", "Files", "*"}},
		"the wildcard":      {`["*"]`, []string{"files", "anything"}, nil},
		"an empty list":     {`[]`, nil, []string{"", "files", "*"}},
		"null":              {`null`, nil, []string{"", "files", "*"}},
		"a wildcard inside": {`["fil*"]`, nil, []string{"files", "fil"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g := grantOf(t, `{"allowed_servers":`+test.servers+`}`)
			for _, server := range test.admits {
				assert.True(t, g.AllowsServer(server), server)
			}
			for _, server := range test.refuses {
				assert.False(t, g.AllowsServer(server), server)
			}
		})
	}
}

func TestTokenIsBoundToItsSourceRanges(t *testing.T) {
	tests := map[string]struct {
		ranges string
		source string
		want   bool
	}{
		"no ranges admit every source":              {`[]`, "203.0.113.9", true},
		"an address in the range":                   {`["10.0.0.0/8"]`, "10.1.2.3", true},
		"an address outside":                        {`["10.0.0.0/8"]`, "11.0.0.1", false},
		"a single address":                          {`["10.0.0.1"]`, "10.0.0.1", true},
		"a range with host bits":                    {`["10.1.2.3/8"]`, "10.9.9.9", true},
		"the second range":                          {`["10.0.0.0/8","192.0.2.0/24"]`, "192.0.2.200", true},
		"IPv6":                                      {`["2001:db8::/32"]`, "2001:db8::1", true},
		"IPv6 outside":                              {`["2001:db8::/32"]`, "2001:db9::1", false},
		"an IPv4 address written as IPv6":           {`["10.0.0.0/8"]`, "::ffff:10.0.0.1", true},
		"an IPv4 address is in no IPv6 range":       {`["::/0"]`, "10.0.0.1", false},
		"a link-local address with a zone":          {`["fe80::/10"]`, "fe80::1%eth0", true},
		"an address that is not known is in no one": {`["0.0.0.0/0"]`, "", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var source netip.Addr
			if test.source != "" {
				source = netip.MustParseAddr(test.source)
			}
			g := grantOf(t, `{"token_bound_cidrs":`+test.ranges+`}`)
			assert.Equal(t, test.want, g.AllowsSource(source))
		})
	}
}

func TestToolRulesAreThoseOfTheServer(t *testing.T) {
	unset := grantOf(t, `{"allowed_servers":["*"],"allowed_tools":null,"denied_tools":[]}`)
	assert.Nil(t, unset.Rules("files").Tools, "without rules nothing is looked at")

	none := grantOf(t, `{"allowed_servers":["*"],"allowed_tools":[]}`)
	require.NotNil(t, none.Rules("files").Tools)
	assert.False(t, none.Rules("files").Tools.Allows("read"), "a list that is set and empty allows nothing")

	g := grantOf(t, `{"allowed_servers":["*"],"denied_tools":["files/delete"]}`)
	assert.False(t, g.Rules("files").Tools.Allows("delete"))
	assert.True(t, g.Rules("files").Tools.Allows("read"))
	assert.Nil(t, g.Rules("github").Tools, "no rule concerns that server")
	first := g.Rules("files").Tools
	assert.Same(t, first, g.Rules("files").Tools, "rules are compiled once")
}

func TestExpiryIsCountedFromTheSendingWhateverTheClocksSay(t *testing.T) {
	sent := time.Now()
	vault := sent.Add(-3 * time.Hour) // Vault's clock is wrong
	l := vaultclient.Lookup{
		Active: true, Client: "c", ClientID: "id", Accessor: "a",
		AnsweredAt: vault, ExpiresAt: vault.Add(time.Minute).Format(time.RFC3339Nano),
	}
	g, err := NewGrant(&l, sent)
	require.NoError(t, err)
	assert.WithinDuration(t, sent.Add(time.Minute), g.ExpiresAt, time.Millisecond)
	assert.False(t, g.Expired(sent.Add(59*time.Second)))
	assert.True(t, g.Expired(sent.Add(61*time.Second)))
}

func TestCredentialsDoNotGetIntoFormattedText(t *testing.T) {
	s := &Server{Name: "files", URL: "https://h/?key=hunter2", Headers: map[string]string{"X-Key": "hunter2"}, Env: map[string]string{"K": "hunter2"}}
	k := &SessionKeys{Keys: map[int][SessionKeySize]byte{1: {104, 117, 110}}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		assert.NotContains(t, fmt.Sprintf(verb, s), "hunter2")
		assert.NotContains(t, fmt.Sprintf(verb, k), "104")
	}
}
