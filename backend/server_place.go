package backend

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/token"
)

// place returns the id of the place to which the server leads.
func (e *serverEntry) place() string {
	if e.Place == "" {
		return e.ID
	}
	return e.Place
}

// samePlace reports whether e and o lead to the same server. Credentials in
// headers may differ: changing those ends no session. A child is another one if anything
// differs that it was started with.
func (e *serverEntry) samePlace(o *serverEntry) bool {
	return e.Transport == o.Transport && e.URL == o.URL && e.Command == o.Command && e.Shared == o.Shared &&
		slices.Equal(e.Args, o.Args) && maps.Equal(e.Env, o.Env) &&
		(e.Transport != check.TransportStdio || e.sameCredentials(o))
}

// movedFrom names the fields by which e leads elsewhere than held did.
func (e *serverEntry) movedFrom(held *serverEntry) []string {
	var fields []string
	for _, f := range []struct {
		name string
		same bool
	}{
		{"transport", e.Transport == held.Transport},
		{"url", e.URL == held.URL},
		{"command", e.Command == held.Command},
		{"args", slices.Equal(e.Args, held.Args)},
	} {
		if !f.same {
			fields = append(fields, f.name)
		}
	}
	return fields
}

// placeAfter returns the id of the place to which next leads, which takes the place of held.
func (b *mcpBackend) placeAfter(held, next *serverEntry) (string, error) {
	if held == nil || len(next.movedFrom(held)) > 0 {
		return token.RandomID(b.opts.Random, idLength)
	}
	return held.place(), nil
}

// placeOf identifies the place to which the server leads.
func (b *mcpBackend) placeOf(ctx context.Context, s logical.Storage, e *serverEntry) (string, error) {
	salt, err := b.salt(ctx, s)
	if err != nil {
		return "", err
	}
	return salt.GetHMAC(fmt.Sprintf("%q", append([]string{e.Transport, e.URL, e.Command}, e.Args...))), nil
}

// goneServer remembers a deleted server whose name clients may still have in their
// allowed_servers: they reach the next server under that name at once.
type goneServer struct {
	// Place is where it led to, as an HMAC: a URL's query may be a credential.
	Place string `json:"place"`
}

// inherited is for a server that takes the name of a deleted one. If clients still name it,
// it returns a warning, or an error if the new server leads elsewhere than the old one,
// unless forced.
func (b *mcpBackend) inherited(ctx context.Context, s logical.Storage, name string, next *serverEntry, forced bool) ([]string, error) {
	var gone goneServer
	if found, err := getJSON(ctx, s, gonePrefix+name, &gone); err != nil || !found {
		return nil, err
	}
	place, err := b.placeOf(ctx, s, next)
	if err != nil {
		return nil, err
	}
	users, complete := b.usersOfServer(ctx, s, name)
	who := users.String()
	switch {
	case users.none() && complete:
		return nil, nil
	case users.none():
		who = "clients that have not been looked at"
	}
	if place != gone.Place && !forced {
		return nil, userErrorf("another server of the name %q was deleted, and %s may still name it: they would reach this one at once. Take it out of their allowed_servers first, or pass force=true", name, who)
	}
	return []string{fmt.Sprintf("%s named the deleted server %q, and may reach this one now", who, name)}, nil
}

// forgetGone forgets that there was a server of the name.
func (b *mcpBackend) forgetGone(ctx context.Context, s logical.Storage, name string) error {
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.servers.lock(name)()
	return s.Delete(ctx, gonePrefix+name)
}
