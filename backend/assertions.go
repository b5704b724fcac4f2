package backend

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

const (
	// longestAssertion bounds how far ahead an assertion may expire.
	longestAssertion = 24 * time.Hour

	// assertionLeeway is how long after its expiry an assertion stays remembered: auth
	// methods take it for some minutes longer (expiration_leeway, clock_skew_leeway).
	assertionLeeway = time.Hour
)

// assertion is one that may be used once.
type assertion struct {
	login, id string
	expires   time.Time
}

// usedAssertion is an assertion that was used, under the HMAC of its login and id.
type usedAssertion struct {
	Until time.Time `json:"until"` // from then on no assertion of the id is accepted
}

// assertionOf reads the assertion that the request names, nil if it names none.
func (b *mcpBackend) assertionOf(d *framework.FieldData, login string) (*assertion, error) {
	id := d.Get("assertion_id").(string)
	_, hasExpiry := d.Raw["assertion_expires"]
	switch {
	case id == "" && !hasExpiry:
		return nil, nil
	case id == "" || !hasExpiry:
		return nil, userErrorf("fields assertion_id and assertion_expires belong together: give both")
	}
	if err := check.AssertionID(id); err != nil {
		return nil, userErrorf("field assertion_id: %s", err)
	}
	expires, err := b.timeAhead(d, "assertion_expires", longestAssertion)
	if err != nil {
		return nil, err
	}
	return &assertion{login: login, id: id, expires: expires}, nil
}

// use notes that the assertion is used, and refuses it if it was used before. It comes before
// everything that the assertion is used for: one that was used for nothing costs its caller
// another assertion, one that is noted too late could be used twice.
func (b *mcpBackend) use(ctx context.Context, s logical.Storage, a *assertion) error {
	if a == nil {
		return nil
	}
	key, err := b.hashToken(ctx, s, "assertion\x00"+a.login+"\x00"+a.id)
	if err != nil {
		return err
	}
	defer b.assertions.lock(key)()
	used, err := b.assertions.getLocked(ctx, s, key)
	if err != nil {
		return err
	}
	if used != nil && b.now().Before(used.Until) {
		return userErrorf("the assertion was used before")
	}
	until := b.now()
	if a.expires.After(until) {
		until = a.expires
	}
	return b.assertions.put(ctx, s, key, &usedAssertion{Until: until.Add(assertionLeeway)})
}

// tidyAssertion forgets an assertion that has expired.
func (b *mcpBackend) tidyAssertion(ctx context.Context, s logical.Storage, key string) error {
	return tidyEntry(ctx, s, b.assertions, key, func(used *usedAssertion) bool { return !b.now().Before(used.Until) })
}
