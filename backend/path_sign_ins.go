package backend

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// signInEntry is a sign-in, under the accessor of the person's Vault token.
type signInEntry struct {
	Client      string `json:"client"`
	ClientID    string `json:"client_id"`
	Person      string `json:"person"`
	Login       string `json:"login"`
	EntityID    string `json:"entity_id"`
	Application string `json:"application"`

	ApplicationName string `json:"application_name,omitempty"`

	Since    time.Time `json:"since"`
	LastSeen time.Time `json:"last_seen"`
	Until    time.Time `json:"until"` // when it has ended at the latest
}

func signInEntryFields() fields {
	return merge(
		pick(tokenResponseFields, "client", "client_id"),
		pick(signInFields(), "application", "person", "login", "entity_id"),
		fields{
			"application_name": {Type: framework.TypeString, Description: "The application's name, as it gives itself; null if it has none."},
			"since":            {Type: framework.TypeString, Description: "When the sign-in got its first token (RFC 3339)."},
			"last_seen":        {Type: framework.TypeString, Description: "When it got its last one."},
			"until":            {Type: framework.TypeString, Description: "When it has ended at the latest. Until then it is listed, also if it has ended before."},
			"end_with":         {Type: framework.TypeString, Description: "The command that ends it now."},
		})
}

func (b *mcpBackend) pathSignIns() []*framework.Path {
	return build(
		path{
			pattern: "sign-ins/?$",
			about:   "sign-ins",
			ops: operations{logical.ListOperation: {
				do: b.listSignIns,
				answers: fields{
					"keys":     {Type: framework.TypeStringSlice, Description: "The accessors of people's Vault tokens, in order."},
					"key_info": {Type: framework.TypeMap, Description: "By accessor, the fields of a read."},
				},
			}},
			synopsis: "List who is signed in.",
			help: `
Each key is the accessor of the Vault token of a person who has signed in with an
application: vault list -detailed shows who, with which application, as which client,
since when and until when. The command in end_with ends it at once.

A sign-in that has ended before, because its Vault token was revoked or expired, stays
listed until the time in until.`,
		},
		path{
			pattern: "sign-ins/" + segment("accessor"),
			fields:  fields{"accessor": accessorField},
			about:   "sign-in",
			ops: operations{
				logical.ReadOperation: {do: b.readSignIn, answers: signInEntryFields()},
			},
			synopsis: "Read a sign-in.",
			help:     "The accessor is that of the person's Vault token, as sign-ins/ lists it, and as lookup answers it in sign_in.",
		},
	)
}

func (b *mcpBackend) listSignIns(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	accessors, info := []string{}, map[string]any{}
	err := b.signIns.each(ctx, req.Storage, func(accessor string, e *signInEntry) {
		if b.now().Before(e.Until) {
			accessors, info[accessor] = append(accessors, accessor), e.data(accessor)
		}
	})
	if err != nil {
		return nil, err
	}
	return logical.ListResponseWithInfo(accessors, info), nil
}

func (b *mcpBackend) readSignIn(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	accessor := d.Get("accessor").(string)
	e, err := b.signIns.get(ctx, req.Storage, accessor)
	if err != nil || e == nil || !b.now().Before(e.Until) {
		return nil, err
	}
	return &logical.Response{Data: e.data(accessor)}, nil
}

func (e *signInEntry) data(accessor string) map[string]any {
	return nullUnset(map[string]any{
		"client":           e.Client,
		"client_id":        e.ClientID,
		"person":           e.Person,
		"login":            e.Login,
		"entity_id":        e.EntityID,
		"application":      e.Application,
		"application_name": e.ApplicationName,
		"since":            formatTime(e.Since),
		"last_seen":        formatTime(e.LastSeen),
		"until":            formatTime(e.Until),
		"end_with":         "vault token revoke -accessor " + accessor,
	})
}

// noteSignIn writes the row of the sign-in that gets a token with that end. It comes before
// the token's entries, so that there is never a token without a row.
func (b *mcpBackend) noteSignIn(ctx context.Context, s logical.Storage, asked *signInRequest, client, clientID string, tokenEnds time.Time) error {
	defer b.signIns.lock(asked.info.Accessor)()
	held, err := b.signIns.getLocked(ctx, s, asked.info.Accessor)
	if err != nil {
		return err
	}
	now := b.now()
	next := &signInEntry{
		Client: client, ClientID: clientID, Person: asked.info.Person, Login: asked.info.Login, EntityID: asked.info.EntityID,
		Application: asked.info.Application, ApplicationName: asked.applicationName,
		Since: now, LastSeen: now, Until: asked.ends,
	}
	if held != nil {
		if err := held.differs(next); err != nil {
			return err
		}
		next.Since = held.Since
		if asked.ends.IsZero() {
			next.Until = held.Until
		}
	}
	if next.Until.Before(tokenEnds) {
		next.Until = tokenEnds
	}
	return b.signIns.put(ctx, s, asked.info.Accessor, next)
}

// differs refuses another client, application or login under the Vault token of a sign-in:
// people who end or audit a sign-in rely on it being one login with one application.
func (e *signInEntry) differs(next *signInEntry) error {
	for _, f := range []struct{ field, held, asked string }{
		{"application", e.Application, next.Application},
		{"login", e.Login, next.Login},
		{"name", e.Client, next.Client},
	} {
		if f.held != f.asked {
			return userErrorf("field %s: the Vault token that asks is that of a sign-in with the application %q as the client %q at the login %q: for another one log in again", f.field, e.Application, e.Client, e.Login)
		}
	}
	if e.EntityID != next.EntityID || e.Person != next.Person {
		return userErrorf("the Vault token that asks is that of a sign-in of %q, and Vault says now that it is of %q: log in again", e.Person, next.Person)
	}
	return nil
}

// tidySignIn removes the row of a sign-in that has ended.
func (b *mcpBackend) tidySignIn(ctx context.Context, s logical.Storage, accessor string) error {
	return tidyEntry(ctx, s, b.signIns, accessor, func(e *signInEntry) bool { return !b.now().Before(e.Until) })
}
