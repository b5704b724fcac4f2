package backend

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
)

func TestATokenOfASignInIsForOneResourceAndSaysWhoSignedIn(t *testing.T) {
	e := newEnv(t).withSignIn()
	l := e.signedIn(ann(), "c", nil)
	want := data{
		"resource": theResource, "application": "cursor", "login": "employees",
		"person": "ann@example.com", "entity_id": "entity-of-ann", "sign_in": "accessor-of-ann",
	}
	found := e.lookup(l.token)
	byAccessor := e.write("lookup-accessor", data{"accessor": found["accessor"]}).Data
	for field, value := range want {
		require.Equal(t, value, l.data[field], "%s of the answer", field)
		require.Equal(t, value, found[field], "%s of a lookup", field)
		require.Equal(t, value, byAccessor[field], "%s of a lookup by accessor", field)
	}
	require.Equal(t, "c", found["client"])
	listed := e.read("clients/c/tokens/" + found["accessor"].(string))
	require.Equal(t, "ann@example.com", listed["person"])
	require.Equal(t, theResource, listed["resource"])
	require.Equal(t, "active", listed["state"])
	_, raw := introspect(t, e, l.token)
	require.Equal(t, theResource, raw["aud"])
	require.Equal(t, "ann@example.com", raw["person"])
	require.Equal(t, "entity-of-ann", raw["entity_id"])
	require.Equal(t, "cursor", raw["application"])
	require.Equal(t, "c", raw["sub"])

	again := e.restart()
	require.Equal(t, withoutFeed(found), withoutFeed(again.lookup(l.token)))
}

func TestATokenWithoutAResourceSaysNothingOfASignIn(t *testing.T) {
	e := newEnv(t).withSignIn()
	leased := e.lease("c", nil)
	for _, token := range []string{leased.token, e.client("d", data{})} {
		found := e.lookup(token)
		for field := range signInFields() {
			require.Contains(t, found, field)
			require.Empty(t, found[field], field)
			require.NotContains(t, leased.data, field)
		}
		_, raw := introspect(t, e, token)
		for _, member := range []string{"aud", "person", "entity_id", "application"} {
			require.NotContains(t, raw, member)
		}
	}
	require.Empty(t, e.rows())
}

func TestATokenOfASignInLivesForAQuarterOfAnHourAtMost(t *testing.T) {
	for name, tc := range map[string]struct {
		config, client data
		ttl            any
		want           time.Duration
		warned         bool
	}{
		"without a ttl":                       {want: 15 * time.Minute},
		"with a client's longer ttl":          {client: data{"token_ttl": "8h"}, want: 15 * time.Minute},
		"with a mount's longer ttl":           {config: data{"default_ttl": "720h"}, want: 15 * time.Minute},
		"with a longer ttl in the request":    {ttl: "2h", want: 15 * time.Minute, warned: true},
		"with a shorter ttl in the request":   {ttl: "2m", want: 2 * time.Minute},
		"with a client's shorter ttl":         {client: data{"token_ttl": "5m"}, want: 5 * time.Minute},
		"with a client's shorter maximum":     {client: data{"token_max_ttl": "4m"}, want: 4 * time.Minute, warned: true},
		"with a mount's shorter maximum":      {config: data{"max_ttl": "3m"}, want: 3 * time.Minute, warned: true},
		"with a ttl of 0, which is no ttl":    {ttl: "0", want: 15 * time.Minute},
		"with a ttl that is exactly the most": {ttl: "15m", want: 15 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t).withSignIn()
			e.write("config", tc.config)
			e.write("clients/c", tc.client)
			d := data{}
			if tc.ttl != nil {
				d["ttl"] = tc.ttl
			}
			resp, err := e.asks(t.Context(), ann(), logical.UpdateOperation, "c", signInData(d))
			require.NoError(t, err)
			require.Equal(t, tc.want, resp.Secret.TTL)
			require.LessOrEqual(t, resp.Secret.MaxTTL, 15*time.Minute)
			require.False(t, resp.Secret.Renewable)
			require.Equal(t, tc.warned, len(resp.Warnings) > 0, "%v", resp.Warnings)
			token := resp.Data["token"].(string)
			e.clock.Advance(tc.want - time.Nanosecond)
			require.True(t, e.active(token))
			e.clock.Advance(time.Nanosecond)
			require.False(t, e.active(token))
		})
	}
}

func TestATokenOfASignInIsNotRenewed(t *testing.T) {
	e := newEnv(t).withSignIn()
	l := e.signedIn(ann(), "c", nil)
	l.secret.Renewable = true // as nobody but Vault could say
	e.clock.Advance(10 * time.Minute)
	require.Contains(t, requireRenewalRefused(t, e, l), "is not renewed")
	require.Contains(t, e.refusedWrite("renew", data{"token": l.token}), "the token is leased")
	e.clock.Advance(5 * time.Minute)
	require.False(t, e.active(l.token))
}

// Vault alone names the person. Each of these is an attempt to be taken for another
// person.
func TestNobodyCanNameAnotherPerson(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*signer)
		data   data
		told   string
	}{
		"by a field for the person":        {data: data{"person": "bob"}, told: `unknown field "person"`},
		"by a field for the entity":        {data: data{"entity_id": "entity-of-bob"}, told: `unknown field "entity_id"`},
		"by a field for the sign-in":       {data: data{"sign_in": "accessor-of-bob"}, told: `unknown field "sign_in"`},
		"by a field for an alias":          {data: data{"alias": "bob"}, told: `unknown field "alias"`},
		"by a field that wraps the fields": {data: data{"signInInfo": data{"person": "bob"}}, told: `unknown field "signInInfo"`},
		"by another login, at which they have no alias": {
			data: data{"login": "ci"}, told: `has no alias at the login "ci"`,
		},
		"by a login that is the accessor of a mount": {
			data: data{"login": "auth_approle_99999999"}, told: "is not a valid login name",
		},
		"by a login that nobody has configured": {data: data{"login": "approle"}, told: `no login "approle" is known`},
		"by a Vault token without an entity": {
			change: func(s *signer) { s.entity = nil }, told: "has no entity",
		},
		"by an entity that is gone": {
			change: func(s *signer) { s.entity, s.entityID = nil, "entity-of-ann" }, told: "does not exist any more",
		},
		"by an entity that Vault does not name": {
			change: func(s *signer) { s.entity.ID, s.entityID = "", "entity-of-ann" }, told: "does not exist any more",
		},
		"by a disabled entity": {
			change: func(s *signer) { s.entity.Disabled = true }, told: "is disabled",
		},
		"by an alias that a token role lets its caller choose": {
			change: func(s *signer) {
				s.entity.Aliases = []*logical.Alias{{MountAccessor: "auth_token_12345678", MountType: "token", Name: "bob@example.com"}}
			}, told: `has no alias at the login "employees"`,
		},
		"by an alias at another mount of the same kind": {
			change: func(s *signer) { s.entity.Aliases[1].MountAccessor = "auth_oidc_ffffffff" }, told: `has no alias at the login "employees"`,
		},
		"by a second alias at the login": {
			change: func(s *signer) {
				s.entity.Aliases = append(s.entity.Aliases, &logical.Alias{MountAccessor: employees, MountType: "oidc", Name: "bob@example.com"})
			}, told: "has 2 aliases at the login",
		},
		"by an alias without a name": {
			change: func(s *signer) { s.entity.Aliases[1].Name = "" }, told: "is not a person's: it is empty",
		},
		"by an alias that looks like another": {
			change: func(s *signer) { s.entity.Aliases[1].Name = "bob@example.com\u200b" }, told: "characters that cannot be seen",
		},
		"by an alias that ends its line in a log": {
			change: func(s *signer) { s.entity.Aliases[1].Name = "bob\nann" }, told: "characters that cannot be seen",
		},
		"by an alias that no log keeps whole": {
			change: func(s *signer) { s.entity.Aliases[1].Name = strings.Repeat("b", 513) }, told: "at most 512",
		},
		"by a batch token, whose end no accessor names": {
			change: func(s *signer) { s.accessor = "" }, told: "a batch token asks",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t).withSignIn()
			who := ann()
			if tc.change != nil {
				tc.change(who)
			}
			require.Contains(t, e.signInRefused(who, logical.UpdateOperation, "c", signInData(tc.data)), tc.told)
			require.Empty(t, e.rows())
		})
	}
}

// The display name, the name and the metadata of the entity, and those of its aliases are
// chosen by their owners: none of them identifies a person. See ann.
func TestThePersonIsTheAliasAtTheLoginAndNothingElse(t *testing.T) {
	e := newEnv(t).withSignIn()
	require.Equal(t, "ann@example.com", e.signedIn(ann(), "c", nil).data["person"])

	merged := ann() // Vault answers the entity that another one has become
	merged.entityID = "entity-before-a-merge"
	require.Equal(t, "entity-of-ann", e.signedIn(merged, "c", nil).data["entity_id"])
}

func TestTheMethodForTokensIsNoLogin(t *testing.T) {
	e := newEnv(t)
	require.Contains(t, e.refusedWrite("config", data{"sign_in_logins": "employees=auth_token_12345678"}), "chooses its alias")
}

func TestARequestForASignInSaysAllOfIt(t *testing.T) {
	long := "https://mcp.example.com/" + strings.Repeat("a", 512)
	for name, tc := range map[string]struct {
		data data
		told string
	}{
		"without a resource":                     {data{"resource": nil}, "field resource is missing"},
		"with an empty resource":                 {data{"resource": ""}, "field resource is missing"},
		"without an application":                 {data{"application": nil}, "field application is missing"},
		"without a login":                        {data{"login": nil}, "field login is missing"},
		"with an application alone":              {data{"resource": nil, "login": nil}, "field resource is missing"},
		"with a name of an application alone":    {data{"resource": nil, "login": nil, "application": nil, "application_name": "Cursor"}, "field resource is missing"},
		"with an end alone":                      {data{"resource": nil, "login": nil, "application": nil, "sign_in_ends": "2026-11-23T00:00:00Z"}, "field resource is missing"},
		"with an assertion alone":                {data{"resource": nil, "login": nil, "application": nil, "assertion_id": "1"}, "field resource is missing"},
		"with a resource that is no URL":         {data{"resource": "mcp"}, "field resource: the URL is not valid"},
		"with a resource without a host":         {data{"resource": "https:///sign-in/mcp"}, "field resource: the URL is not valid"},
		"with a resource of another scheme":      {data{"resource": "ftp://mcp.example.com/x"}, "field resource: the URL is not valid"},
		"with http to another machine":           {data{"resource": "http://mcp.example.com/sign-in/mcp"}, "http to another machine"},
		"with a user in the resource":            {data{"resource": "https://u:p@mcp.example.com/sign-in/mcp"}, "a user or a password"},
		"with a fragment in the resource":        {data{"resource": theResource + "#x"}, "a query or a fragment"},
		"with a query in the resource":           {data{"resource": theResource + "?x=y"}, "a query or a fragment"},
		"with a slash at the resource's end":     {data{"resource": theResource + "/"}, "a slash at its end"},
		"with a resource without a path":         {data{"resource": "https://mcp.example.com"}, "has no path"},
		"with upper case in the resource's host": {data{"resource": "https://MCP.example.com/sign-in/mcp"}, "write it as https://mcp.example.com/sign-in/mcp"},
		"with the default port in the resource":  {data{"resource": "https://mcp.example.com:443/sign-in/mcp"}, "write it as https://mcp.example.com/sign-in/mcp"},
		"with dots in the resource's path":       {data{"resource": "https://mcp.example.com/x/../sign-in/mcp"}, "not in canonical form"},
		"with a resource that is too long":       {data{"resource": long}, "at most 512"},
		"with an application that is too long":   {data{"application": strings.Repeat("a", 513)}, "at most 512"},
		"with an application with a space":       {data{"application": "a b"}, "visible characters of ASCII"},
		"with an application with a line feed":   {data{"application": "a\nb"}, "visible characters of ASCII"},
		"with an application beyond ASCII":       {data{"application": "ä"}, "visible characters of ASCII"},
		"with a name that is too long":           {data{"application_name": strings.Repeat("ä", 201)}, "at most 200"},
		"with a login of another form":           {data{"login": "Employees"}, "is not a valid login name"},
		"with an end that is no time":            {data{"sign_in_ends": "tomorrow"}, "field sign_in_ends: \"tomorrow\" is not a valid time"},
		"with an end in milliseconds":            {data{"sign_in_ends": float64(1795000000000)}, "ahead, which is the most"},
		"with an end in 32 days":                 {data{"sign_in_ends": "2026-12-24T09:00:00Z"}, "744 hours ahead"},
		"with an assertion without its end":      {data{"assertion_id": "1"}, "belong together"},
		"with the end of no assertion":           {data{"assertion_expires": "2026-11-22T10:00:00Z"}, "belong together"},
		"with an assertion's id too long":        {data{"assertion_id": strings.Repeat("1", 257), "assertion_expires": "2026-11-22T10:00:00Z"}, "at most 256"},
		"with an assertion's end in two days":    {data{"assertion_id": "1", "assertion_expires": "2026-11-24T09:00:01Z"}, "24 hours ahead"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t).withSignIn()
			require.Contains(t, e.signInRefused(ann(), logical.UpdateOperation, "c", signInData(tc.data)), tc.told)
		})
	}
}

func TestTheFieldsOfASignInAreTakenInABodyAlone(t *testing.T) {
	e := newEnv(t).withSignIn()
	for field, value := range signInData(data{
		"application_name": "Cursor", "sign_in_ends": e.in(time.Hour), "assertion_id": "1", "assertion_expires": e.in(time.Hour),
	}) {
		told := e.signInRefused(ann(), logical.ReadOperation, "c", data{field: value})
		require.Contains(t, told, "field "+field+" has no effect on a read: it goes in the body of a write")
	}
	require.Contains(t, e.signInRefused(ann(), logical.ReadOperation, "c", signInData(nil)), "goes in the body of a write")
}

func TestNobodySignsInAsAClientThatIsNotForIt(t *testing.T) {
	e := newEnv(t).withSignIn()
	e.client("d", data{})
	require.Contains(t, e.signInRefused(ann(), logical.UpdateOperation, "d", signInData(nil)), "write clients/d with sign_in=true first")
	e.write("clients/c", data{"disabled": true})
	require.Contains(t, e.signInRefused(ann(), logical.UpdateOperation, "c", signInData(nil)), `the client "c" is disabled`)
	require.Contains(t, e.signInRefused(ann(), logical.UpdateOperation, "none", signInData(nil)), `no client "none" exists`)
}

func TestWhatEndsATokenOfASignIn(t *testing.T) {
	ways := map[string]func(e *env, l *lease){
		"its lease is revoked, as with the person's Vault token": func(e *env, l *lease) { require.NoError(e.t, e.revokeLease(l)) },
		"its client may not be signed in as any more":            func(e *env, _ *lease) { e.write("clients/c", data{"sign_in": false}) },
		"the same by a patch that resets the field":              func(e *env, _ *lease) { e.patch("clients/c", data{"sign_in": nil}) },
		"its client is revoked":                                  func(e *env, _ *lease) { e.write("revoke-client/c", nil) },
		"its client is disabled":                                 func(e *env, _ *lease) { e.write("clients/c", data{"disabled": true}) },
		"its client is deleted":                                  func(e *env, _ *lease) { e.delete("clients/c") },
		"the token is revoked":                                   func(e *env, l *lease) { e.write("revoke", data{"token": l.token}) },
		"all tokens are revoked":                                 func(e *env, _ *lease) { e.write("revoke-all", nil) },
	}
	for name, end := range ways {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t).withSignIn()
			l := e.signedIn(ann(), "c", nil)
			events := e.watch(func() { end(e, l) })
			require.False(t, e.active(l.token))
			require.NotEmpty(t, events, "no gateway hears of it")
			require.Len(t, e.rows(), 1, "its row stays until its end")
		})
	}
}

// A gateway that does not know the token may know an earlier one of the same sign-in.
func TestTheEndOfATokenNamesItsSignInUnlessItRanOut(t *testing.T) {
	e := newEnv(t).withSignIn()
	l, own := e.signedIn(ann(), "c", nil), e.lease("c", nil)
	events := e.watch(func() {
		require.NoError(t, e.revokeLease(l))
		require.NoError(t, e.revokeLease(own))
	})
	require.Len(t, events, 2)
	require.Equal(t, "accessor-of-ann", events[0]["sign_in"])
	require.Empty(t, events[1]["sign_in"])

	l = e.signedIn(ann(), "c", nil)
	e.clock.Advance(15 * time.Minute)
	require.Empty(t, e.watch(func() { require.NoError(t, e.revokeLease(l)) }), "its expiry is no revocation")
}

func TestASignInThatIsTakenFromAClientEndsTheTokensOfSignInsAlone(t *testing.T) {
	e := newEnv(t).withSignIn()
	own := e.rotate("c", nil)
	leased, signed := e.lease("c", nil), e.signedIn(ann(), "c", nil)
	events := e.watch(func() { e.write("clients/c", data{"sign_in": false}) })
	require.Len(t, events, 1)
	require.Equal(t, "client", events[0]["type"])
	require.False(t, e.active(signed.token))
	require.True(t, e.active(own))
	require.True(t, e.active(leased.token))

	e.write("clients/c", data{"sign_in": true})
	require.False(t, e.active(signed.token), "a token that had ended came back")
	require.True(t, e.active(e.signedIn(ann(), "c", nil).token))
}

func TestAnOtherChangeOfAClientLeavesTheTokensOfItsSignIns(t *testing.T) {
	e := newEnv(t).withSignIn()
	l := e.signedIn(ann(), "c", nil)
	e.write("clients/c", data{"allowed_servers": "b"})
	e.write("clients/c", data{"sign_in": true})
	e.rotate("c", data{"grace_period": 0})
	require.True(t, e.active(l.token))
}

// TestAGatewayThatDoesNotKnowResourcesAdmitsATokenOfASignInNowhere: it reads these lists alone.
func TestAGatewayThatDoesNotKnowResourcesAdmitsATokenOfASignInNowhere(t *testing.T) {
	e := newEnv(t).withSignIn()
	answer := e.lookup(e.signedIn(ann(), "c", nil).token)
	require.Equal(t, oldLookup{[]string{}, []string{}, []string{}}, asJSON[oldLookup](t, answer))
	rights := asJSON[struct {
		Rights []policy.Rights `json:"rights"`
	}](t, answer).Rights
	require.Len(t, rights, 1)
	require.Equal(t, []string{"a"}, rights[0].AllowedServers)
	require.Equal(t, []string{"a"}, e.lookup(e.rotate("c", nil))["allowed_servers"], "the client's own token has no resource")
}

// TestAClientForPeopleHasNoTokenOfItsOwn unless its administrator brings one, or asks for one.
func TestAClientForPeopleHasNoTokenOfItsOwn(t *testing.T) {
	e := newEnv(t)
	created := e.write("clients/people", data{"sign_in": true, "allowed_servers": "a"})
	require.Equal(t, data{"client": "people", "client_id": created.Data["client_id"], "allowed_servers": []string{"a"}}, created.Data)
	require.Contains(t, fmt.Sprint(created.Warnings), "rotate-client")
	require.Empty(t, e.read("clients/people")["accessor"])
	token := e.rotate("people", nil)
	require.True(t, e.active(token))

	const custom = "a-token-that-somebody-else-has-made-0123456789"
	e.write("clients/both", data{"sign_in": true, "access_token": custom})
	require.True(t, e.active(custom))
	require.NotEmpty(t, e.write("clients/machine", data{}).Data["token"])
}

func TestTheAdministratorReadsAndChangesSignIn(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{})
	require.Equal(t, false, e.read("clients/c")["sign_in"])
	e.write("clients/c", data{"sign_in": true})
	require.Equal(t, true, e.read("clients/c")["sign_in"])
	e.write("clients/c", data{"metadata": "team=a"})
	require.Equal(t, true, e.read("clients/c")["sign_in"])
}

func TestLoginsAreConfigured(t *testing.T) {
	e := newEnv(t)
	require.Nil(t, e.read("config")["sign_in_logins"])
	e.write("config", data{"sign_in_logins": "employees=" + employees})
	e.write("config", data{"grace_period": "5m"})
	require.Equal(t, map[string]string{"employees": employees}, e.read("config")["sign_in_logins"])
	require.Empty(t, e.watch(func() { e.write("config", data{"sign_in_logins": "employees=" + employees}) }), "nothing has changed")
	for value, told := range map[string]string{
		"Employees=" + employees:                  "is not a valid login name",
		"-a=" + employees:                         "is not a valid login name",
		"a:b=" + employees:                        "is not a valid login name",
		strings.Repeat("a", 33) + "=" + employees: "at most 32",
		"a=oidc":                             "is not the accessor of an auth mount",
		"a=":                                 "is not the accessor of an auth mount",
		"a=auth_" + strings.Repeat("x", 200): "is not the accessor of an auth mount",
		"a=" + employees + ",b=" + employees: `the logins "a" and "b" have the same accessor`,
	} {
		require.Contains(t, e.refusedWrite("config", data{"sign_in_logins": strings.Split(value, ",")}), told, value)
	}
	many := data{}
	for i := range 33 {
		many["a"+strings.Repeat("b", i%30)+string(rune('a'+i%26))] = "auth_oidc_" + strings.Repeat("1", i+1)
	}
	require.Contains(t, e.refusedWrite("config", data{"sign_in_logins": many}), "at most 32")
	e.write("config", data{"sign_in_logins": ""})
	require.Nil(t, e.read("config")["sign_in_logins"])
}

func TestALoginThatIsGoneTakesNoSignIn(t *testing.T) {
	e := newEnv(t).withSignIn()
	l := e.signedIn(ann(), "c", nil)
	e.write("config", data{"sign_in_logins": "ci=" + ciMount})
	require.Contains(t, e.signInRefused(ann(), logical.UpdateOperation, "c", signInData(nil)), `no login "employees" is known`)
	require.True(t, e.active(l.token), "which the page of config says")
}

func TestTimesAreTakenInEveryFormOfVaults(t *testing.T) {
	e := newEnv(t).withSignIn()
	want := e.in(10 * time.Hour)
	for _, value := range []any{want, e.unix(10 * time.Hour), json.Number(e.unix(10 * time.Hour)), float64(e.clock.Now().Add(10 * time.Hour).Unix())} {
		e.signedIn(ann(), "c", data{"sign_in_ends": value})
		require.Equal(t, want, e.read("sign-ins/accessor-of-ann")["until"], "%T", value)
	}
}

func TestATokenOfASignInIsSealedLikeEveryOther(t *testing.T) {
	e := newKMSEnv(t)
	e.write("config", data{"sign_in_logins": data{"employees": employees}})
	e.client("c", data{"sign_in": true, "seal": "kms"})
	sealed := e.signedIn(ann(), "c", nil).token
	require.Equal(t, theResource, e.lookup(sealed)["resource"])
	tok, dataKey := e.open(sealed)
	found := e.write("lookup", data{"token": tok, "data_key": dataKey}).Data
	require.Equal(t, "ann@example.com", found["person"])
	require.False(t, e.active(tok))
}
