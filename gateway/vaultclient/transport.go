package vaultclient

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-cleanhttp"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-rootcerts"

	"vault-plugin-secrets-mcp/gateway/config"
)

// lookEvery is the least time between two looks at the certificates on disk. Only
// requests cause a look.
const lookEvery = time.Second

// transport is a [http.Transport] that it replaces when the certificates on disk change.
// Requests in flight stay on the old one.
type transport struct {
	settings config.VaultClient
	options  Options
	proxy    func(*url.URL) (*url.URL, error)

	current atomic.Pointer[http.Transport]
	looked  atomic.Int64 // time of the last look, in nanoseconds of the Unix epoch

	mu   sync.Mutex
	seen fingerprint // of the files at the last reading, valid or not
}

// fingerprint changes when one of the files does.
type fingerprint [sha256.Size]byte

func newTransport(settings config.VaultClient, options Options) (*transport, error) {
	if options.Log == nil {
		options.Log = hclog.NewNullLogger()
	}
	t := &transport{settings: settings, options: options, proxy: settings.ProxyFunc()}
	t.seen = t.look()
	first, err := t.make()
	if err != nil {
		return nil, err
	}
	t.current.Store(first)
	t.looked.Store(time.Now().UnixNano())
	return t, nil
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if looked := t.looked.Load(); time.Now().UnixNano()-looked >= int64(lookEvery) &&
		t.looked.CompareAndSwap(looked, time.Now().UnixNano()) {
		t.renew()
	}
	return t.current.Load().RoundTrip(r)
}

// CloseIdleConnections is for [http.Client.CloseIdleConnections].
func (t *transport) CloseIdleConnections() { t.current.Load().CloseIdleConnections() }

// renew reads the files again if they have changed. The old certificates stay in use while
// the new ones are not valid, for example when only one of two files is written yet.
func (t *transport) renew() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.look()
	if now == t.seen {
		return
	}
	t.seen = now
	next, err := t.make()
	if err != nil {
		t.options.Log.Warn("the certificates for Vault have changed and cannot be read: the old ones stay in use", "error", err)
		return
	}
	t.current.Swap(next).CloseIdleConnections()
	t.options.Log.Info("the certificates for Vault have changed: new connections use the new ones")
}

// look reads the sizes and times of the files, without opening them.
func (t *transport) look() fingerprint {
	hash := sha256.New()
	note := func(path string, info fs.FileInfo, err error) {
		if err != nil {
			fmt.Fprintf(hash, "%q %v\n", path, err)
			return
		}
		fmt.Fprintf(hash, "%q %d %d\n", path, info.Size(), info.ModTime().UnixNano())
	}
	for _, path := range []string{t.settings.CACertFile, t.settings.ClientCertFile, t.settings.ClientKeyFile} {
		if path != "" {
			info, err := os.Stat(path)
			note(path, info, err)
		}
	}
	if dir := t.settings.CACertDir; dir != "" {
		_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				var info fs.FileInfo
				info, err = os.Stat(path)
				note(path, info, err)
			}
			return nil
		})
	}
	return fingerprint(hash.Sum(nil))
}

// make reads the files, and returns a transport that uses them.
func (t *transport) make() (*http.Transport, error) {
	made := cleanhttp.DefaultPooledTransport()
	// HTTP/1.1: a request that times out closes its connection. Over HTTP/2 all
	// requests would share one connection. They would wait for a node that is gone
	// until TCP gives up, minutes after another node became active.
	made.ForceAttemptHTTP2 = false
	if t.options.IdleConns > 0 {
		made.MaxIdleConnsPerHost = t.options.IdleConns
	}
	made.Proxy = func(r *http.Request) (*url.URL, error) { return t.proxy(r.URL) }
	if t.settings.Address.Scheme == "unix" {
		socket, dialer := t.settings.Address.Path, &net.Dialer{Timeout: 30 * time.Second}
		made.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	}
	var err error
	made.TLSClientConfig, err = tlsConfig(t.settings)
	return made, err
}

func tlsConfig(settings config.VaultClient) (*tls.Config, error) {
	made := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         settings.ServerName,
		InsecureSkipVerify: settings.SkipVerify, //nolint:gosec // the gateway warns of this setting
	}
	if settings.CACertFile != "" || settings.CACertPEM != "" || settings.CACertDir != "" {
		authorities, err := rootcerts.LoadCACerts(&rootcerts.Config{
			CAFile: settings.CACertFile, CACertificate: []byte(settings.CACertPEM), CAPath: settings.CACertDir,
		})
		if err != nil {
			return nil, fmt.Errorf("the authorities to trust: %w", err)
		}
		made.RootCAs = authorities
	}
	if settings.ClientCertFile != "" {
		pair, err := tls.LoadX509KeyPair(settings.ClientCertFile, settings.ClientKeyFile)
		if err != nil {
			return nil, fmt.Errorf("the client certificate: %w", err)
		}
		// Send it even if the server names other authorities: Vault's cert method accepts
		// certificates of others, too.
		made.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return made, nil
}
