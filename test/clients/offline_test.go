package clients

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/mcpclient"
)

// offline is an environment in which programs reach the loopback only. Those that
// run on Node are held there by loopback.cjs; the others, which are told of a
// proxy, find one that refuses. Either way the test hears of it and fails.
type offline struct {
	guard string // loopback.cjs
	log   string // the requests that the guard has refused
	proxy *httptest.Server

	mu    sync.Mutex
	asked []string // the requests that the proxy has refused
}

func newOffline(t *testing.T) *offline {
	t.Helper()
	guard, err := filepath.Abs("loopback.cjs")
	require.NoError(t, err)
	o := &offline{guard: guard, log: filepath.Join(t.TempDir(), "stray")}
	o.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.asked = append(o.asked, r.Method+" "+r.Host)
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(func() {
		o.proxy.Close()
		stray, err := os.ReadFile(o.log)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if len(stray) > 0 || len(o.asked) > 0 {
			t.Errorf("programs wanted to leave the loopback:\n%s%q", stray, o.asked)
		}
	})
	return o
}

// environment is a program's environment, with a home of its own.
func (o *offline) environment(home string) []string {
	return append(mcpclient.Quiet(),
		"PATH="+os.Getenv("PATH"), "HOME="+home,
		fmt.Sprintf("NODE_OPTIONS=--require=%q", o.guard), "LOOPBACK_LOG="+o.log,
		"HTTP_PROXY="+o.proxy.URL, "HTTPS_PROXY="+o.proxy.URL, "NO_PROXY=127.0.0.1,localhost",
	)
}
