// Package config reads the gateway's file, HCL, into a checked struct. The
// result needs no further checks: every address parses, every file named is
// there, every duration is in its range. It reports all mistakes at once, each
// with file and line, and with its remedy.
//
// The types are the documentation: each field states its name in the file, its
// meaning and its default. Environment variables and flags override the file: they
// are listed in environment.go and vault_environment.go.
package config

import (
	"errors"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"time"
)

// Config is the whole file.
type Config struct {
	Vault     Vault     // vault { }, required
	Listener  Listener  // listener { }
	Admin     Admin     // admin { }
	Grants    Grants    // grants { }
	Audit     Audit     // audit { }
	Limits    Limits    // limits { }
	Aggregate Aggregate // aggregate { }
	Log       Log       // log { }

	// KMS is nil unless the file has a block kms { }: then sealed tokens are
	// refused.
	KMS *KMS

	// Stdio is nil unless the file has a block stdio { }: then no registered
	// server of that transport can be reached.
	Stdio *Stdio

	// UpstreamCredentials is nil unless the file has a block upstream_credentials { }: then
	// servers that are registered with credentials cannot be reached.
	UpstreamCredentials *UpstreamCredentials

	// SignIn is nil unless the file has a block sign_in { }: then sign-in is off, and
	// there are no URLs below /sign-in.
	SignIn *SignIn

	// UpstreamAllow, upstream_allow, limits where registered servers may be.
	// Empty: anywhere but link-local and cloud metadata addresses, which are
	// always refused.
	UpstreamAllow UpstreamAllow

	// UpstreamProxy, upstream_proxy { }, is the proxy to servers whose upstream block has
	// none. Nil: they are reached directly.
	UpstreamProxy *Proxy

	// Upstreams holds the blocks upstream "name" { }. Use Upstream to read it.
	Upstreams map[string]Upstream

	// Warnings are about settings that work and should not stay so, one line each.
	// -check-config prints them, and the log has them at each start.
	Warnings []string
}

// Methods of logging in to Vault.
const (
	AuthAppRole    = "approle"
	AuthKubernetes = "kubernetes"
	AuthJWT        = "jwt"
	AuthTokenFile  = "token_file"
)

// Auth is a way to log in. The gateway reads the files again at each login, so their
// contents may be rotated.
type Auth struct {
	Method string // one of the Auth constants
	// Mount, mount, is where the method is mounted. Default: its name.
	Mount string

	RoleID       string // approle: role_id, or
	RoleIDFile   string // approle: role_id_file
	SecretIDFile string // approle: secret_id_file
	// WrappedSecretID, secret_id_wrapped: the file holds a response-wrapping
	// token around the secret id. It opens once, so the gateway keeps the secret
	// id in memory, and needs a new file after a restart.
	WrappedSecretID bool

	Role    string // kubernetes, jwt: role
	JWTFile string // kubernetes, jwt: jwt_file. Default for kubernetes: the service account's

	TokenFile string // token_file: path, the sink of a Vault Agent
}

// NetHTTP is the value of http1 for Go's own HTTP server.
const NetHTTP = "net/http"

// Listener is where MCP clients connect.
type Listener struct {
	// Address, address, is host:port. MCP_GATEWAY_LISTEN overrides it.
	// Default: 127.0.0.1:8080.
	Address string
	// TLSCertFile and TLSKeyFile, tls_cert_file and tls_key_file, PEM: read
	// again on SIGHUP. Without them the listener speaks plain HTTP.
	TLSCertFile string
	TLSKeyFile  string
	// TLSClientCAFile, tls_client_ca_file: clients must then present a
	// certificate that one of these authorities signed, besides their token.
	TLSClientCAFile string
	// PublicURL, public_url, is the gateway's own URL as clients use it. Nil if
	// not set.
	PublicURL *url.URL
	// AllowedHosts, allowed_hosts, are further names, with or without a port,
	// that may stand in the Host header. Names of the loopback and the
	// listener's own address always may. Without PublicURL and AllowedHosts, a
	// listener that is not on the loopback accepts any IP address, and no name.
	AllowedHosts []string
	// AllowedOrigins, allowed_origins, are the web origins, such as
	// https://app.example.com, whose pages may use the gateway. The first labels
	// may be a "*": https://*.example.com. Default: none.
	AllowedOrigins []string
	// TrustedProxies, trusted_proxies, are the ranges of those proxies whose
	// X-Forwarded-For, or PROXY protocol header, is believed.
	TrustedProxies []netip.Prefix
	// ProxyProtocol, proxy_protocol, expects a PROXY protocol header, version 1
	// or 2, from trusted proxies.
	ProxyProtocol bool
	// HTTP2, http2, offers HTTP/2 to clients that connect over TLS. Default: true.
	HTTP2 bool
	// HTTP1, http1, is NetHTTP to serve clients with Go's own HTTP server, and else
	// empty: with gateway/http1. It is for one release, while that is new.
	HTTP1 string
	// DrainDelay, drain_delay, is how long after SIGTERM new requests are still
	// taken, each answer ending its connection, while load balancers and
	// clients go elsewhere. Default: 500ms.
	DrainDelay time.Duration
	// DrainTimeout, drain_timeout, is how long after that the requests in
	// flight may go on. Default: 30s.
	DrainTimeout time.Duration
}

// Admin is the listener for health and metrics. It has no authentication.
type Admin struct {
	Address string // address, host:port. Default: 127.0.0.1:8081
}

// Grants bounds the gateway's memory of Vault's answers.
type Grants struct {
	// MaxStale, max_stale, is how long a grant is used after the sending of the
	// request that last confirmed it, while Vault's change feed cannot be
	// reached. Default: 30s.
	MaxStale time.Duration
	// NegativeTTL, negative_ttl, is how long a "no" is remembered. Default: 30s.
	NegativeTTL time.Duration
	// MaxEntries, max_entries, bounds the grants kept, and the negative answers
	// likewise. Default: 100000.
	MaxEntries int
	// Wait, wait, is how long Vault holds a request for changes. At most a
	// third of MaxStale. Default: 5s.
	Wait time.Duration
	// ColdRate and ColdBurst, cold_rate and cold_burst, bound the lookups a
	// second for tokens that the gateway does not know, over all sources.
	// Default: 500 and 1000.
	ColdRate  float64
	ColdBurst int
	// ColdSourceRate and ColdSourceBurst, cold_source_rate and
	// cold_source_burst, do so for one source address (IPv6: one /64).
	// Default: 20 and 100.
	ColdSourceRate  float64
	ColdSourceBurst int
}

// KMS opens sealed tokens, with data keys that AWS KMS unwraps. Credentials come
// from the AWS SDK's default chain.
type KMS struct {
	// Audience, audience, is whom the gateway's tokens are sealed for: that of
	// config/kms in the engine. Default: the mount's accessor, as there.
	Audience string
	// Required, required, refuses tokens that are not sealed. Default: false.
	Required bool
	// Region, region, is the KMS key's. Default: the one in its ARN.
	Region string
	// Endpoint, endpoint, is the URL of a private endpoint. Default: AWS's.
	Endpoint string
	// Refresh, refresh, is the time after which the gateway asks KMS for a data key
	// again. A key that KMS then refuses opens no token any more. Default: 5m.
	Refresh time.Duration
	// MaxStale, max_stale, is how long a data key is used after KMS last
	// confirmed it, while KMS does not answer. Default: 1h.
	MaxStale time.Duration
}

// Stdio allows servers that are child processes of the gateway.
type Stdio struct {
	// AllowedCommands, allowed_commands, required: absolute paths. The gateway
	// refuses a command of the registry that is not in this list. A bare name in
	// the registry means the one path here that ends with it.
	AllowedCommands []string
	// User, user, runs the children under this account: a name or uid. Needs a
	// gateway that runs as root, or with CAP_SETUID, CAP_SETGID and CAP_CHOWN.
	// Default: the gateway's own.
	User string
	// UIDs, uid_range, gives each child a uid, and a gid of the same number, of its
	// own. Nobody else may use them. Needs the same. Default: none.
	UIDs IDRange
	// Isolation, isolation: whether children start if neither the kernel nor UIDs
	// keep them from reading each other's environment. By default they do not.
	Isolation string
	// HomeDir, home_dir, is the folder in which each child has a home for as long as
	// it runs. Default: children in the state folder of the service, or the account.
	HomeDir string
	// IdleTimeout, idle_timeout, ends a child that was not used for this time. Default:
	// 10m.
	IdleTimeout time.Duration
	// StopTimeout, stop_timeout, is the time between asking a child to end and
	// killing its process group. Default: 5s.
	StopTimeout time.Duration
	// MaxChildren, max_children, bounds the children of this gateway. Default: 64.
	MaxChildren int
	// MaxChildrenPerClient, max_children_per_client, bounds those of one
	// client. Default: 8.
	MaxChildrenPerClient int
}

// Values of isolation.
const (
	IsolationRequired = "required" // the default
	IsolationOff      = "off"      // children may read each other's environment and files
)

// IDRange are ids of accounts, one after the other.
type IDRange struct{ First, Count uint32 }

// UpstreamAllow lists where upstreams may be: by name, or by the address that
// is dialled. One match suffices.
type UpstreamAllow struct {
	// Hosts are lower-case names; a leading "*." matches any number of labels.
	Hosts []string
	// Prefixes are address ranges.
	Prefixes []netip.Prefix
}

// Empty reports whether nothing is listed: every upstream is allowed then.
func (u *UpstreamAllow) Empty() bool { return len(u.Hosts) == 0 && len(u.Prefixes) == 0 }

// Upstream has the settings for one registered server.
type Upstream struct {
	// Timeout, timeout, is how long the server may take until its answer's
	// headers: of a slow tool they come with its result. Streams may go on
	// longer. Default: 5m.
	Timeout time.Duration
	// ConnectTimeout, connect_timeout, bounds dialling and the TLS handshake.
	// Default: 5s.
	ConnectTimeout time.Duration
	// CACertFile, ca_cert_file, PEM: the authorities to trust instead of the
	// system's.
	CACertFile string
	// ClientCertFile and ClientKeyFile, client_cert_file and client_key_file,
	// PEM: the gateway's certificate for the server.
	ClientCertFile string
	ClientKeyFile  string
	// MaxConcurrent, max_concurrent, bounds the requests in flight to the
	// server from this gateway, streams included. Default: 0, no bound.
	MaxConcurrent int
	// CredentialPaths, credential_paths, are the Vault paths that the registration may
	// name in its credentials; one that ends with * stands for all paths with that
	// beginning. Nil: all that Vault's policies allow.
	CredentialPaths []string
	// Proxy, proxy { }, is the way to the server. Default: upstream_proxy.
	Proxy *Proxy
}

// Limits bounds what one request, or one client, may use.
type Limits struct {
	// MaxBody, max_body, of a request. Default: 4MiB.
	MaxBody int64
	// MaxHeader, max_header, of a request, all of it. Default: 32KiB.
	MaxHeader int
	// MaxList, max_list, is how much of an answer is buffered where a list in
	// it must be filtered. Default: 8MiB.
	MaxList int64
	// MaxStreamAge, max_stream_age, ends streams, with up to a tenth of jitter,
	// so that clients reconnect now and then. Default: 1h.
	MaxStreamAge time.Duration
	// KeepAlive, keep_alive, is the time between comments sent on a silent SSE
	// stream. Default: 15s.
	KeepAlive time.Duration
	// PerClientConcurrency, per_client_concurrency, bounds one client's
	// requests in flight at this gateway, streams included. Default: 256.
	PerClientConcurrency int
	// MaxBuffered, max_buffered, bounds the bytes of bodies and of answers that
	// must be had whole, of all requests in flight at this gateway. Default: 256MiB.
	MaxBuffered int64
	// MaxBufferedPerClient, max_buffered_per_client, bounds those of one client.
	// Default: 64MiB, or the need of the largest request.
	MaxBufferedPerClient int64
	// MaxConnectionsPerSource, max_connections_per_source, bounds the open
	// connections of one source address (IPv6: one /64). Those of trusted proxies
	// are not bounded; those of clients that a PROXY protocol header names are. 0:
	// no bound. Default: 1024.
	MaxConnectionsPerSource int
}

// Aggregate is about the endpoint at which all servers are one.
type Aggregate struct {
	// ListWait, list_wait, is how long a list waits for its slowest server.
	// Default: 2s.
	ListWait time.Duration
	// FirstListWait, first_list_wait, is how long a list waits for the first
	// server that has something to show, where there would be nothing in it
	// otherwise. Not longer than ListWait: as long as that. Default: 50s.
	FirstListWait time.Duration
}

// Log is about the gateway's own log lines, on standard error.
type Log struct {
	Level  string // level: trace, debug, info, warn or error. Default: info
	Format string // format: "json" or "text". Default: json
}

// defaultUpstream is that of a server without a block of its own.
var defaultUpstream = Upstream{Timeout: 5 * time.Minute, ConnectTimeout: 5 * time.Second}

// Upstream returns the settings for the server of that name.
func (c *Config) Upstream(name string) Upstream {
	u, ok := c.Upstreams[name]
	if !ok {
		u = defaultUpstream
	}
	if u.Proxy == nil {
		u.Proxy = c.UpstreamProxy
	}
	return u
}

var (
	// ErrNotAllowed: the gateway's file does not allow the command.
	ErrNotAllowed = errors.New("the command is not in allowed_commands of the gateway's stdio block")
	// ErrAmbiguous: the command is a bare name that several programs have.
	ErrAmbiguous = errors.New("the command is a bare name that more than one of allowed_commands ends with: register it with its absolute path")
)

// Program returns the path of a registered command. A bare name, as policies and
// other products' files have it ("npx"), stands for the one allowed program of
// that name: PATH is not used.
func (s *Stdio) Program(command string) (string, error) {
	if slices.Contains(s.AllowedCommands, command) {
		return command, nil
	}
	found := ""
	for _, path := range s.AllowedCommands {
		if filepath.Base(path) != command {
			continue
		}
		if found != "" && found != path {
			return "", ErrAmbiguous
		}
		found = path
	}
	if found == "" {
		return "", ErrNotAllowed
	}
	return found, nil
}
