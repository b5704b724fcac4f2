package backend

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/errgroup"
)

// How a collection is read as a whole. Each read is a call back into Vault and
// takes a fraction of a millisecond, nearly all of it waiting.
const (
	scanSlice = 512 // entries that are read before the next are
	scanReads = 16  // reads under way at once
)

// each calls do for every entry, in the order of their keys. It takes no lock and
// puts nothing into the cache, so that nobody waits for it, however many entries
// there are: an entry that is written meanwhile is seen as it was or as it is. It
// ends with ctx, which is the request's own.
func (c *collection[T]) each(ctx context.Context, s logical.Storage, do func(key string, v *T)) error {
	keys, err := c.list(ctx, s, "")
	if err != nil {
		return err
	}
	read := make([]*T, min(scanSlice, len(keys)))
	for len(keys) > 0 {
		slice := keys[:min(scanSlice, len(keys))]
		keys = keys[len(slice):]
		if err := c.readAll(ctx, s, slice, read); err != nil {
			return err
		}
		for i, key := range slice {
			if read[i] != nil {
				do(key, read[i])
			}
		}
	}
	return nil
}

// readAll reads the entries of the keys into the places of the same index.
func (c *collection[T]) readAll(ctx context.Context, s logical.Storage, keys []string, into []*T) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(scanReads)
	for i, key := range keys {
		if held, ok := c.cache.Peek(key); ok {
			into[i] = held
			continue
		}
		group.Go(func() (err error) {
			if err = ctx.Err(); err == nil {
				into[i], err = c.read(ctx, s, key)
			}
			return err
		})
	}
	return group.Wait()
}

// someOf names a few of many, for a sentence.
func someOf(what string, names []string) string {
	const shown = 5
	if len(names) == 1 {
		return fmt.Sprintf("the %s %s", what, names[0])
	}
	list := strings.Join(names[:min(shown, len(names))], ", ")
	if extra := len(names) - shown; extra > 0 {
		list = fmt.Sprintf("%s and %d more", list, extra)
	}
	return fmt.Sprintf("%d %ss (%s)", len(names), what, list)
}
