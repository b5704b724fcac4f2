package backend

import (
	"context"
	"fmt"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/vault/sdk/helper/locksutil"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/errgroup"
)

// Where things are kept, relative to the mount. No key ever holds a token.
const (
	configKey      = "config"
	mountKey       = "mount"
	sessionKeysKey = "session-keys"

	clientPrefix = "client/" // client/<name>: the authority
	uidPrefix    = "uid/"    // uid/<client id>: the client's name
	tokenPrefix  = "token/"  // token/<2 hex>/<62 hex>: HMAC to pointer
	leasePrefix  = "lease/"  // lease/<client id>/<rest of the accessor>: HMAC of a leased token
	spentPrefix  = "spent/"  // spent/<2 hex>/<62 hex>: a custom token that has ended
	serverPrefix = "server/" // server/<name>: the registry
	rolePrefix   = "role/"   // role/<name>: rights that many clients have
	gonePrefix   = "gone/"   // gone/<name>: a server that was deleted while clients may name it

	pinPrefix     = "pins/"      // pins/<server>: its approved and its reported definitions
	pinTextPrefix = "pin-texts/" // pin-texts/<server>/<digest>: a definition's text

	signInPrefix    = "sign-in/"   // sign-in/<accessor of the person's Vault token>
	assertionPrefix = "assertion/" // assertion/<2 hex>/<62 hex>: an assertion that was used

	usagePrefix     = "usage/client/" // usage/client/<client id>: when it was last used
	usageRowsPrefix = "usage/rows/"   // usage/rows/<client id>/<server>: likewise, by tool
	usageDayPrefix  = "usage/day/"    // usage/day/<day>: which gateways there were
)

// The content of a collection's cache.
const (
	cachePresent = false // entries only
	cacheAbsent  = true  // also that there is no entry
)

// collection is a typed set of entries under one storage prefix, with a bounded
// cache. Entries are never changed in place: code that changes one copies it first.
//
// The cache is filled under the shared lock of the entry's stripe and dropped
// under the exclusive one before each write. A write that succeeds puts the new entry
// into the cache, so that readers do not wait for the rest of the writer's work. After a
// write that failed, the cache stays empty, since storage may have the new entry all the
// same. So the cache never holds an entry that storage no longer has.
type collection[T any] struct {
	prefix string
	absent bool
	locks  []*locksutil.LockEntry
	cache  *lru.Cache[string, *T]
}

func newCollection[T any](prefix string, size int, absent bool) *collection[T] {
	cache, err := lru.New[string, *T](size)
	if err != nil {
		panic(err) // a size under 1
	}
	return &collection[T]{prefix: prefix, absent: absent, locks: locksutil.CreateLocks(), cache: cache}
}

// lock takes the exclusive lock of key's stripe. The caller must call unlock.
func (c *collection[T]) lock(key string) (unlock func()) {
	stripe := locksutil.LockForKey(c.locks, key)
	stripe.Lock()
	return stripe.Unlock
}

// get returns the entry, or nil if there is none. A caller that holds a lock of this
// collection calls getLocked instead.
func (c *collection[T]) get(ctx context.Context, s logical.Storage, key string) (*T, error) {
	if v, ok := c.cache.Get(key); ok {
		return v, nil
	}
	stripe := locksutil.LockForKey(c.locks, key)
	stripe.RLock()
	defer stripe.RUnlock()
	return c.getLocked(ctx, s, key)
}

// getLocked is get for a caller that holds the lock of key's stripe.
func (c *collection[T]) getLocked(ctx context.Context, s logical.Storage, key string) (*T, error) {
	if v, ok := c.cache.Get(key); ok {
		return v, nil
	}
	v, err := c.read(ctx, s, key)
	if err == nil && (v != nil || c.absent) {
		c.cache.Add(key, v)
	}
	return v, err
}

// read returns the entry as storage has it, without any lock and without the
// cache.
func (c *collection[T]) read(ctx context.Context, s logical.Storage, key string) (*T, error) {
	entry, err := s.Get(ctx, c.prefix+key)
	if err != nil || entry == nil {
		return nil, err
	}
	v := new(T)
	if err := entry.DecodeJSON(v); err != nil {
		return nil, fmt.Errorf("the entry %s%s cannot be read: %w", c.prefix, key, err)
	}
	return v, nil
}

// put writes the entry. The caller holds the exclusive lock of its stripe.
func (c *collection[T]) put(ctx context.Context, s logical.Storage, key string, v *T) error {
	entry, err := logical.StorageEntryJSON(c.prefix+key, v)
	if err != nil {
		return err
	}
	c.cache.Remove(key)
	if err := s.Put(ctx, entry); err != nil {
		return err
	}
	held := new(T) // as storage has it, which may differ from v in form
	if err := entry.DecodeJSON(held); err == nil {
		c.cache.Add(key, held)
	}
	return nil
}

// delete removes the entry. The caller holds the exclusive lock of its stripe.
func (c *collection[T]) delete(ctx context.Context, s logical.Storage, key string) error {
	c.cache.Remove(key)
	return s.Delete(ctx, c.prefix+key)
}

// invalidate drops the cached entry of a storage key, if the key is one of this
// collection's. It waits for a fill under way, which may have read the old entry.
func (c *collection[T]) invalidate(storageKey string) bool {
	key, ok := strings.CutPrefix(storageKey, c.prefix)
	if !ok {
		return false
	}
	defer c.lock(key)()
	return c.cache.Remove(key)
}

// list returns the keys of all entries.
func (c *collection[T]) list(ctx context.Context, s logical.Storage) ([]string, error) {
	return s.List(ctx, c.prefix)
}

// How a collection is read as a whole. Each read is a call back into Vault and
// takes a fraction of a millisecond, nearly all of it waiting.
const (
	scanSlice = 512 // entries that are read before the next are
	scanReads = 16  // reads under way at once
)

// each calls do for every entry, in the order of their keys. It takes no lock and puts
// nothing into the cache, so no request waits for it, however many entries there are.
// If an entry is written meanwhile, do gets the old or the new one. It ends with ctx,
// which is the request's own.
func (c *collection[T]) each(ctx context.Context, s logical.Storage, do func(key string, v *T)) error {
	keys, err := c.list(ctx, s)
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

func putJSON(ctx context.Context, s logical.Storage, key string, v any) error {
	entry, err := logical.StorageEntryJSON(key, v)
	if err != nil {
		return err
	}
	return s.Put(ctx, entry)
}

func getJSON(ctx context.Context, s logical.Storage, key string, v any) (found bool, err error) {
	entry, err := s.Get(ctx, key)
	if err != nil || entry == nil {
		return false, err
	}
	return true, entry.DecodeJSON(v)
}
