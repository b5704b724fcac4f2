package application

import (
	"context"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"vault-plugin-secrets-mcp/gateway/signin/uri"
)

const (
	maxCopies   = 500
	maxFailures = 1000

	// failurePause is the time after a failure in which nothing is fetched from that URL.
	failurePause = 10 * time.Second

	// newerPause is the least time between two fetches for a key that is not in a copy.
	newerPause = time.Minute

	// maxStale is how long a good copy is used while no newer one can be fetched. It
	// bounds the time for which rights last that the owner has removed from the document.
	maxStale = 7 * 24 * time.Hour
)

// cache keeps the contents of documents. A good copy outlives errors, and failures are
// cached separately, so that requests for URLs without a document cannot push good copies
// out.
type cache[T any] struct {
	fetcher *fetcher
	parse   func(url string, body []byte) (T, error)
	now     func() time.Time

	copies   *lru.Cache[string, copied[T]]
	failures *lru.Cache[string, failure]
	flights  singleflight.Group
}

type copied[T any] struct {
	value   T
	fetched time.Time
	until   time.Time
}

type failure struct {
	err  error
	when time.Time
}

func newCache[T any](f *fetcher, now func() time.Time, parse func(string, []byte) (T, error)) *cache[T] {
	c := &cache[T]{fetcher: f, parse: parse, now: now}
	c.copies, _ = lru.New[string, copied[T]](maxCopies) // fails for sizes below one alone
	c.failures, _ = lru.New[string, failure](maxFailures)
	return c
}

// get returns the document at the URL.
func (c *cache[T]) get(ctx context.Context, u *uri.URI) (T, error) {
	if one, ok := c.copies.Get(u.Text); ok && c.fresh(one) {
		return one.value, nil
	}
	return c.fallback(u, c.fetch(ctx, u, c.fresh))
}

// newer returns the present document, for who misses something in the copy; the copy again
// where it was fetched a short while ago. An older copy does not do: the missing key may be
// in a newer one.
func (c *cache[T]) newer(ctx context.Context, u *uri.URI) (T, error) {
	if one, ok := c.copies.Get(u.Text); ok && c.recent(one) {
		return one.value, nil
	}
	if err := c.fetch(ctx, u, c.recent); err != nil {
		var none T
		return none, err
	}
	return c.fallback(u, nil)
}

// fresh reports whether the copy may be used without a look at its source.
func (c *cache[T]) fresh(one copied[T]) bool { return c.now().Before(one.until) }

// recent reports whether the copy was fetched a short while ago.
func (c *cache[T]) recent(one copied[T]) bool { return c.now().Before(one.fetched.Add(newerPause)) }

// fetch makes one fetch for all callers at the same time. It goes on when they hang up. A
// caller that missed the copy just before another's fetch ended uses that result: the flight
// looks again.
func (c *cache[T]) fetch(ctx context.Context, u *uri.URI, does func(copied[T]) bool) error {
	flight := c.flights.DoChan(u.Text, func() (any, error) {
		if one, ok := c.copies.Get(u.Text); ok && does(one) {
			return nil, nil
		}
		if f, ok := c.failures.Get(u.Text); ok && c.now().Before(f.when.Add(failurePause)) {
			return nil, f.err
		}
		return nil, c.refresh(context.WithoutCancel(ctx), u)
	})
	select {
	case result := <-flight:
		return result.Err
	case <-ctx.Done():
		return &fetchError{words: "the request was given up", cause: context.Cause(ctx)}
	}
}

// refresh fetches once and keeps the result.
func (c *cache[T]) refresh(ctx context.Context, u *uri.URI) error {
	url := strings.Clone(u.Text) // it may be a part of a request's header
	body, age, err := c.fetcher.get(ctx, u)
	if err == nil {
		var value T
		if value, err = c.parse(url, body); err == nil {
			now := c.now()
			c.copies.Add(url, copied[T]{value: value, fetched: now, until: now.Add(age)})
			c.failures.Remove(url)
			return nil
		}
	}
	c.failures.Add(url, failure{err: err, when: c.now()})
	return err
}

// fallback returns the copy, or the error where there is none that may be used.
func (c *cache[T]) fallback(u *uri.URI, err error) (T, error) {
	one, ok := c.copies.Get(u.Text)
	if ok && (err == nil || c.now().Before(one.until.Add(maxStale))) {
		return one.value, nil
	}
	var none T
	if err == nil { // the copy left the cache at once
		err = &fetchError{words: "too many documents are in use"}
	}
	return none, err
}
