// Package backend is the secrets engine. It holds clients with their allow-lists of
// servers, issues, rotates and revokes their tokens, and answers lookups.
//
// # The client entry is the authority
//
// A token's HMAC leads to a pointer (storage token/), and the pointer names a client. A
// pointer alone admits nothing: the client entry must confirm it. A client's own token is
// in the entry's list. A leased token is confirmed by the client's id, which never changes,
// by the client's generation, and by its own expiry. So every change of access is one Put
// of one entry:
//
//	create, rotate   pointers, then the client entry, then clean-up
//	lease            the row of its sign-in, if it has one, the lease entry, then the pointer
//	revoke           the client entry (generation + 1)
//	delete           the client entry, then clean-up
//	revoke-all       the mount's entry (generation + 1)
//
// A crash in between leaves at worst a pointer that nothing confirms, and tidy removes it.
// A client that is deleted and created again under the same name has another id, so its
// old tokens stay dead.
//
// # Locks
//
// Locks are taken in this order:
//
//  1. a writer of a sealed token takes the lock that keeps its data key;
//  2. a writer of a client takes the client's stripe of the client locks;
//  3. a writer of a custom token takes the stripe of the token's HMAC;
//  4. a writer of pins takes the stripe of the server's name, and reads the server under it.
//
// Caches of entries are filled under the same stripes. AWS KMS is asked before any lock is
// taken.
//
// # The change feed
//
// Every change that takes access away runs inside feed.Around (see package feed): first an
// intent, then the change, then the event with its index.
package backend

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/salt"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/kms"
	"vault-plugin-secrets-mcp/backend/version"
)

// Options are the parts of the outside world that the engine needs. Where one has its
// zero value, the engine uses the real one.
type Options struct {
	Now    func() time.Time
	Random io.Reader
}

// mcpBackend is the engine at one mount.
type mcpBackend struct {
	*framework.Backend
	opts Options
	feed *feed.Feed

	types map[string]framework.FieldType // of the fields of all paths

	configs  *collection[check.Config]
	mounts   *collection[mountEntry]
	clients  *collection[clientEntry]
	pointers *collection[pointer]
	servers  *collection[serverEntry]
	roles    *collection[roleEntry]
	keys     *collection[sessionKeys]
	pins     *collection[pinEntry]

	signIns    *collection[signInEntry]
	assertions *collection[usedAssertion]

	usage     *collection[clientUsage]
	usageRows *collection[serverUsage]
	usageDays *collection[usageDay]
	presence  presence

	pinLosses pinLosses

	kmsEntries *collection[kmsEntry]
	kmsClients kmsClients
	keyring    *kms.Keyring

	// sealing: a writer of a sealed token holds it shared, and a request that removes
	// config/kms holds it alone.
	sealing sync.RWMutex
	// sealedSince counts the tokens that were sealed.
	sealedSince atomic.Uint64

	policyBook policyBook

	// spentLock guards writing and removing entries of spentPrefix.
	spentLock sync.Mutex

	saltLock sync.RWMutex
	saltHeld *salt.Salt

	tidying    tidyRun
	lastTidy   atomic.Int64 // Unix seconds
	background context.Context
	stop       context.CancelFunc
}

// Factory makes the engine for one mount. It reads and writes nothing: Vault
// also calls it to ask for the version and the paths, without storage.
func Factory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	return New(ctx, conf, Options{})
}

// New is Factory with another clock and another source of random bytes.
func New(ctx context.Context, conf *logical.BackendConfig, opts Options) (logical.Backend, error) {
	if conf == nil {
		return nil, errors.New("the configuration passed into the backend is nil")
	}
	b := newBackend(conf, opts)
	own := *conf
	own.System = newCachedSystem(conf.System, b.opts.Now)
	if err := b.Setup(ctx, &own); err != nil {
		return nil, err
	}
	return b, nil
}

func newBackend(conf *logical.BackendConfig, opts Options) *mcpBackend {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Random == nil {
		opts.Random = rand.Reader
	}
	b := &mcpBackend{
		opts:     opts,
		feed:     feed.New(feed.Options{Now: opts.Now, Random: opts.Random, Logger: conf.Logger}),
		configs:  newCollection[check.Config]("", 1, cacheAbsent),
		mounts:   newCollection[mountEntry]("", 1, cacheAbsent),
		keys:     newCollection[sessionKeys]("", 1, cacheAbsent),
		clients:  newCollection[clientEntry](clientPrefix, 16384, cachePresent),
		pointers: newCollection[pointer](tokenPrefix, 65536, cachePresent),
		servers:  newCollection[serverEntry](serverPrefix, 4096, cachePresent),
		roles:    newCollection[roleEntry](rolePrefix, 4096, cacheAbsent),
		pins:     newCollection[pinEntry](pinPrefix, 512, cacheAbsent),

		signIns:    newCollection[signInEntry](signInPrefix, 4096, cachePresent),
		assertions: newCollection[usedAssertion](assertionPrefix, 1, cachePresent),

		usage:     newCollection[clientUsage](usagePrefix, 16384, cacheAbsent),
		usageRows: newCollection[serverUsage](usageRowsPrefix, 4096, cachePresent),
		usageDays: newCollection[usageDay](usageDayPrefix, 4, cachePresent),

		kmsEntries: newCollection[kmsEntry](kmsPrefix, 1, cacheAbsent),
		keyring:    kms.NewKeyring(kms.Options{Now: opts.Now}),
	}
	b.background, b.stop = context.WithCancel(context.Background())
	b.Backend = &framework.Backend{
		Help:           strings.TrimSpace(backendHelp),
		BackendType:    logical.TypeLogical,
		RunningVersion: version.Number(),
		PathsSpecial: &logical.Paths{
			SealWrapStorage: []string{
				configKey, mountKey, sessionKeysKey, salt.DefaultLocation,
				clientPrefix, tokenPrefix, leasePrefix, spentPrefix, serverPrefix, rolePrefix, policyPrefix,
				kmsPrefix, gonePrefix, signInPrefix, assertionPrefix, pinPrefix, pinTextPrefix,
			},
		},
		// The framework tries one pattern after the other, so the paths of gateways come first.
		Paths: framework.PathAppend(
			b.pathLookup(),
			b.pathChanges(),
			b.pathConfig(),
			b.pathConfigKMS(),
			b.pathServers(),
			b.pathPins(),
			b.pathClientTokens(), // before pathClients, whose pattern is wider
			b.pathClients(),
			b.pathRoles(),
			b.pathPolicies(),
			b.pathEvaluate(),
			b.pathRotateClient(),
			b.pathRevoke(),
			b.pathCreds(),
			b.pathSignIns(),
			b.pathIntrospect(),
			b.pathRenew(),
			b.pathGateway(),
			b.pathGatewaySignIn(),
			b.pathGatewayUsage(),
			b.pathGatewayPins(),
			b.pathUsage(),
			b.pathDataKeys(),
			b.pathTidy(),
		),
		Secrets:        []*framework.Secret{b.secretToken()},
		InitializeFunc: b.initialize,
		PeriodicFunc:   b.periodic,
		Invalidate:     b.invalidate,
		Clean:          b.clean,
	}
	b.types = fieldTypes(b.Paths)
	return b
}

// initialize prepares the needs of later requests. They prepare missing parts themselves, so
// a failure here does not refuse the mount.
func (b *mcpBackend) initialize(ctx context.Context, req *logical.InitializationRequest) error {
	if !b.WriteSafeReplicationState() {
		return nil
	}
	for name, prepare := range map[string]func() error{
		"the change feed":  func() error { return b.feed.Load(ctx, req.Storage) },
		"the salt":         func() error { _, err := b.salt(ctx, req.Storage); return err },
		"the mount's id":   func() error { _, err := b.mountEntry(ctx, req.Storage); return err },
		"the session keys": func() error { _, err := b.sessionKeys(ctx, req.Storage); return err },
	} {
		if err := prepare(); err != nil {
			b.Logger().Warn("not prepared at start, will be on the first request that needs it", "what", name, "error", err)
		}
	}
	return nil
}

// clean ends held requests and the tidy run, which would make Vault wait.
func (b *mcpBackend) clean(context.Context) {
	b.feed.Close()
	b.stop()
}

// invalidate drops key from the caches: another node has written it.
func (b *mcpBackend) invalidate(_ context.Context, key string) {
	switch {
	case strings.HasPrefix(key, policyPrefix):
		b.policyBook.lock.Lock() // after a reading under way, which may be too old
		defer b.policyBook.lock.Unlock()
		b.policyBook.drop()
	case key == salt.DefaultLocation:
		b.saltLock.Lock()
		defer b.saltLock.Unlock()
		b.saltHeld = nil
	case b.configs.invalidate(key), b.mounts.invalidate(key), b.keys.invalidate(key),
		b.clients.invalidate(key), b.pointers.invalidate(key), b.servers.invalidate(key), b.roles.invalidate(key),
		b.kmsEntries.invalidate(key), b.signIns.invalidate(key), b.assertions.invalidate(key),
		b.pins.invalidate(key), b.usage.invalidate(key), b.usageRows.invalidate(key), b.usageDays.invalidate(key):
	}
}

// periodic is called by Vault about once a minute on every mount.
func (b *mcpBackend) periodic(ctx context.Context, req *logical.Request) error {
	if !b.WriteSafeReplicationState() {
		return nil
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	b.tidyWhenDue(req.Storage)
	return errors.Join(b.beginDay(ctx, req.Storage), b.feed.Prune(ctx, req.Storage), b.rotateSessionKeysWhenDue(ctx, req.Storage))
}

// now is the engine's clock.
func (b *mcpBackend) now() time.Time { return b.opts.Now().UTC() }

// writeBound is how long a sequence of writes may take, in all.
const writeBound = 10 * time.Second

// durable returns the context of a sequence of writes. It outlives the caller, whose
// Ctrl-C would otherwise stop the sequence half-way, and has a timeout of its own.
func durable(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), writeBound)
}

const backendHelp = `
The MCP secrets engine issues, rotates and revokes the bearer tokens with which
MCP clients reach MCP servers through an MCP gateway.

A client ("clients/") is an identity with a list of the servers that it may
reach. The write that creates it answers with its token, once. "rotate-client/"
issues a new token while the old one lives on for a grace period,
"revoke-client/" ends all of a client's tokens at once, and "creds/" leases
short-lived tokens that are renewed and revoked like any other lease. For people who
sign in through a gateway, "creds/" leases tokens for one resource, and "sign-ins/"
lists who they are.

A role ("roles/") is the same for many clients: servers, and rules about what of them may
be used.

"servers/" is the registry of MCP servers, "pins/" holds the approvals of their definitions,
and "policies/" holds allow-lists and deny-lists in the form of Claude Code's managed settings. A gateway validates tokens through
"lookup", follows "changes" to learn of revocations within milliseconds, and
enforces each client's list.

With AWS KMS ("config/kms") a client's tokens are handed out sealed: they are of use
only as long as a KMS key is enabled, whatever Vault says.
`
