package mcp

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/credentials"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// lender is a Vault that leases one text, for an hour.
type lender struct{ parent vaultclient.Parent }

const leasedText = "secret-of-a-usual-length-0123456789"

func (l lender) Parent() (vaultclient.Parent, <-chan struct{}) { return l.parent, nil }

func (l lender) Create(_ context.Context, r vaultclient.ChildRequest) (*vaultclient.Child, error) {
	c := vaultclient.NewChild("token")
	c.Accessor, c.EntityID, c.Policies = "accessor-of-the-child", "entity-of-"+r.Alias, r.Policies
	c.Renewable, c.TTL, c.Parent, c.Sent = true, time.Hour, l.parent, time.Now()
	return c, nil
}

func (l lender) Read(_ context.Context, _ *vaultclient.Child, path string) (*vaultclient.Secret, error) {
	return &vaultclient.Secret{
		Data: map[string]any{"password": leasedText}, LeaseID: path + "/lease", Duration: time.Hour, Renewable: true, Sent: time.Now(),
	}, nil
}

func (l lender) Write(ctx context.Context, c *vaultclient.Child, path string, _ map[string]any) (*vaultclient.Secret, error) {
	return l.Read(ctx, c, path)
}

func (l lender) Renew(context.Context, *vaultclient.Child, time.Duration) (time.Duration, error) {
	return time.Hour, nil
}

func (l lender) RenewLease(context.Context, *vaultclient.Child, string, time.Duration) (time.Duration, error) {
	return time.Hour, nil
}

func (l lender) Revoke(context.Context, *vaultclient.Child) error { return nil }

// frugalUpstream is a server that answers every ping alike, and allocates nothing for it. It
// reports the password of the first request on each connection.
func frugalUpstream(t testing.TB) (url string, passwords <-chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(pong), pong)
	seen := make(chan string, 10)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveFrugally(conn, answer, seen)
		}
	}()
	return "http://" + listener.Addr().String() + "/mcp", seen
}

func serveFrugally(conn net.Conn, answer []byte, seen chan<- string) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for first := true; ; {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return
		}
		if value, found := bytes.CutPrefix(line, []byte("X-Password: ")); found && first {
			first = false
			seen <- string(bytes.TrimSpace(value))
		}
		if len(line) > len("\r\n") {
			continue
		}
		if _, err := reader.Discard(len(ping)); err != nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// The two ways for a server to get the same header.
const (
	serverStatic = "static" // from its registration
	serverLeased = "leased" // from Vault
)

// warmed is a whole gateway, with its audit log, which knows the token and has the credentials.
// It returns one request to each server.
func warmed(t testing.TB) map[string]func() {
	t.Helper()
	const token = "good-token-0123456789"
	url, passwords := frugalUpstream(t)
	vault := grantstest.New(t)
	vault.AddToken(token, "alice", nil)
	vault.Register(serverStatic, grantstest.Data{"transport": "http", "url": url, "headers": grantstest.Data{"X-Password": leasedText}})
	vault.Register(serverLeased, grantstest.Data{
		"transport": "http", "url": url, "headers": grantstest.Data{"X-Password": "{{db.password}}"},
		"credentials": grantstest.Data{"db": grantstest.Data{"path": "database/creds/ro"}},
	})
	settings := testConfig()
	settings.UpstreamCredentials = &config.UpstreamCredentials{
		TokenRole: "mcp-upstream", Policies: []string{"mcp-upstream"}, AliasPrefix: "mcp", TokenTTL: time.Hour, IdleTimeout: time.Hour,
		MaxLeases: 100, MaxLeasesPerClient: 10, MintRate: 100,
	}
	broker := vault.Broker(grants.Options{})
	store, err := credentials.New(credentials.Options{
		Config: settings, Vault: lender{vaultclient.NewParent("entity-of-the-gateway", time.Time{})}, Live: broker.Live, Log: hclog.NewNullLogger(),
	})
	require.NoError(t, err)
	handler := New(Options{Registry: broker, Credentials: store, Config: settings, Log: hclog.NewNullLogger()})
	log, err := access.OpenAuditLog(config.Audit{File: filepath.Join(t.TempDir(), "audit.log")}, hclog.NewNullLogger())
	require.NoError(t, err)
	gate := access.New(access.Options{
		Broker: broker, Audit: log, Listener: config.Listener{Address: "127.0.0.1:8080"}, Limits: settings.Limits, Next: handler,
	})
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		store.Run(ctx)
	}()
	t.Cleanup(func() {
		gate.Close()
		handler.Close()
		store.Close()
		stop()
		<-stopped
		log.Close()
	})

	requests := make(map[string]func())
	for _, server := range []string{serverStatic, serverLeased} {
		body := strings.NewReader(ping)
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/servers/"+server+"/mcp", body)
		request.Host = "127.0.0.1:8080"
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Accept", "application/json, text/event-stream")
		answer := &answered{header: http.Header{}}
		send := func() {
			body.Reset(ping)
			answer.reset()
			gate.ServeHTTP(answer, request)
		}
		requests[server] = func() {
			if send(); answer.status != http.StatusOK || answer.body.String() != pong {
				t.Fatalf("%s: status %d: %s", server, answer.status, &answer.body)
			}
		}
		vault.Await("the token to be known", func() bool {
			send()
			return answer.status == http.StatusOK
		})
		require.Equal(t, leasedText, <-passwords, "what the server gets")
	}
	return requests
}

// answered is the answer to one request. It can be used again.
type answered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answered) reset() {
	clear(a.header)
	a.status = http.StatusOK
	a.body.Reset()
}

func (a *answered) Header() http.Header         { return a.header }
func (a *answered) WriteHeader(status int)      { a.status = status }
func (a *answered) Write(p []byte) (int, error) { return a.body.Write(p) }

// TestLeasedCredentialsCostARequestNoAllocation compares whole requests, from the gate to the
// audit line of the outcome.
func TestLeasedCredentialsCostARequestNoAllocation(t *testing.T) {
	requests := warmed(t)
	static, leased := allocations(requests[serverStatic]), allocations(requests[serverLeased])
	t.Logf("%.2f allocations a request with static headers, %.2f with leased ones", static, leased)
	require.Less(t, leased, static+0.75, "one allocation more would be one whole")
}

// allocations counts those of a request: the fewest of several attempts, since others may
// allocate at the same time, and with the race detector pools lose some of what is in them. A
// garbage collection would empty them.
func allocations(request func()) float64 {
	const attempts, runs = 8, 300
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	fewest := math.Inf(1)
	for range attempts {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			request()
		}
		runtime.ReadMemStats(&after)
		fewest = min(fewest, float64(after.Mallocs-before.Mallocs)/runs)
	}
	return fewest
}

// BenchmarkWarmRequest is the same as a benchmark.
func BenchmarkWarmRequest(b *testing.B) {
	requests := warmed(b)
	for _, server := range []string{serverStatic, serverLeased} {
		b.Run(server, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				requests[server]()
			}
		})
	}
}
