package backend

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// The logins and the resource of the tests' sign-ins.
const (
	employees   = "auth_oidc_1a2b3c4d" // the accessor of the login "employees"
	ciMount     = "auth_jwt_5e6f7a8b"  // that of the login "ci"
	theResource = "https://mcp.example.com/sign-in/mcp"
)

// signer is a Vault token with which somebody has signed in.
type signer struct {
	entity   *logical.Entity // nil: the token has none
	entityID string          // the request's own value; default: the entity's
	accessor string          // "": a batch token
}

// ann is a person with one alias at the login "employees".
func ann() *signer {
	return &signer{accessor: "accessor-of-ann", entity: &logical.Entity{
		ID: "entity-of-ann", Name: "entity_1", Metadata: map[string]string{"name": "bob"},
		Aliases: []*logical.Alias{
			{MountAccessor: "auth_approle_99999999", MountType: "approle", Name: "bob"},
			{MountAccessor: employees, MountType: "oidc", Name: "ann@example.com", Metadata: map[string]string{"email": "bob@example.com"}},
		},
	}}
}

// withSignIn has the mount take sign-ins as the client c.
func (e *env) withSignIn() *env {
	e.t.Helper()
	e.write("config", data{"sign_in_logins": data{"employees": employees, "ci": ciMount}})
	e.client("c", data{"sign_in": true, "allowed_servers": "a"})
	return e
}

// signInData is a gateway's request for ann, with changes; nil leaves a field out.
func signInData(changes data) data {
	d := data{"resource": theResource, "application": "cursor", "login": "employees"}
	maps.Copy(d, changes)
	maps.DeleteFunc(d, func(_ string, v any) bool { return v == nil })
	return d
}

// asks sends a request for a token of the client with somebody's Vault token.
func (e *env) asks(ctx context.Context, who *signer, op logical.Operation, client string, d data) (*logical.Response, error) {
	system := e.b.System().(*cachedSystem).SystemView.(*logical.StaticSystemView)
	system.EntityVal = who.entity
	req := &logical.Request{
		Operation: op, Path: "creds/" + client, Data: d, Storage: e.storage, DisplayName: "oidc-bob", MountPoint: "mcp/",
		ClientTokenAccessor: who.accessor, EntityID: who.entityID,
	}
	if who.entity != nil && who.entityID == "" {
		req.EntityID = who.entity.ID
	}
	resp, err := e.b.HandleRequest(ctx, req)
	if err == nil && !resp.IsError() {
		e.checkSchema(req, resp)
	}
	return resp, err
}

// signedIn is a token that somebody has got for the resource.
func (e *env) signedIn(who *signer, client string, d data) *lease {
	e.t.Helper()
	resp, err := e.asks(context.Background(), who, logical.UpdateOperation, client, signInData(d))
	require.NoError(e.t, err)
	require.NoError(e.t, resp.Error())
	resp.Secret.IssueTime = e.clock.Now()
	return &lease{token: resp.Data["token"].(string), secret: resp.Secret, data: resp.Data}
}

// signInRefused returns the text of the 400 that the request must answer, which has written
// nothing.
func (e *env) signInRefused(who *signer, op logical.Operation, client string, d data) string {
	e.t.Helper()
	before := contentsOf(e.t, e.storage)
	resp, err := e.asks(context.Background(), who, op, client, d)
	require.NoError(e.t, err)
	require.True(e.t, resp.IsError(), "the request was accepted: %+v", resp)
	require.Equal(e.t, before, contentsOf(e.t, e.storage), "a refused request has written")
	return resp.Error().Error()
}

// atOnce sends a second request for a token of c as soon as the first has read an entry with
// that prefix, and lets it get as far as it can meanwhile. It returns the error of each, ""
// for one that was accepted.
func (e *env) atOnce(prefix string, who1 *signer, d1 data, who2 *signer, d2 data) []string {
	e.t.Helper()
	texts := make([]string, 2)
	ask := func(e *env, i int, who *signer, d data) error {
		resp, err := e.asks(context.Background(), who, logical.UpdateOperation, "c", signInData(d))
		if err == nil && resp.IsError() {
			texts[i] = resp.Error().Error()
		}
		return err
	}
	var second <-chan error
	hooked := *e
	hooked.storage = &hookedStorage{Storage: e.storage, after: func(what, key string) {
		if second != nil || what != "get" || !strings.HasPrefix(key, prefix) {
			return
		}
		second = inBackground(func() error { return ask(e, 1, who2, d2) })
		select {
		case err := <-second:
			second = inBackground(func() error { return err })
		case <-time.After(50 * time.Millisecond): // it waits for a lock, or the machine is slow
		}
	}}
	require.NoError(e.t, ask(&hooked, 0, who1, d1))
	require.NotNil(e.t, second, "the first request has read no such entry")
	require.NoError(e.t, <-second)
	return texts
}

// rows returns who is signed in, by accessor.
func (e *env) rows() data {
	e.t.Helper()
	resp := e.must(logical.ListOperation, "sign-ins/", nil)
	rows := data{}
	info, _ := resp.Data["key_info"].(map[string]any)
	accessors, _ := resp.Data["keys"].([]string)
	for _, accessor := range accessors {
		require.Equal(e.t, info[accessor], e.read("sign-ins/"+accessor))
		rows[accessor] = info[accessor]
	}
	require.Len(e.t, info, len(rows))
	return rows
}

// in is a time that far from now, as a request has it.
func (e *env) in(d time.Duration) string { return formatTime(e.clock.Now().Add(d)) }

// unix is that time in seconds.
func (e *env) unix(d time.Duration) string { return fmt.Sprint(e.clock.Now().Add(d).Unix()) }
