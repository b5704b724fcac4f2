package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

func TestApplyUpgradesThePluginInPlaceUnderLoad(t *testing.T) {
	a := newApplying(t)
	upstream := a.StartUpstream(nil)
	a.write(t, upstream.URL)
	a.applied(t)
	gateway := a.StartGateway(harness.GatewayOptions{})

	next := filepath.Join(a.Dir, "plugins", "next")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w -X vault-plugin-secrets-mcp/backend/version.number=v9.9.9", "-o", next, "../../plugin/cmd/vault-plugin-secrets-mcp")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	load := a.startLoad(t, gateway.ServerURL(stage.Calculator))
	load.await(t, 20)
	text := a.applied(t, "-plugin", next)
	load.await(t, 20)
	load.end(t)
	require.Contains(t, text, "create plugin "+provision.PluginName+" v9.9.9")
	require.Contains(t, text, "change mount mcp")
	mounts, err := a.Vault.Client().Sys().ListMountsWithContext(t.Context())
	require.NoError(t, err)
	require.Equal(t, "v9.9.9", mounts["mcp/"].RunningVersion)
	require.NotNil(t, a.Read("mcp/clients/cursor-local"))
	require.Contains(t, a.applied(t, "-plugin", next), "Nothing to do")
	for i, token := range load.issued { // one answered during the upgrade is as good as any other
		require.Equal(t, fmt.Sprintf("during-%d", i), a.Write("mcp/lookup", harness.Map{"token": token})["client"])
	}
	fresh := a.StartGateway(harness.GatewayOptions{})
	require.Equal(t, http.StatusOK, a.Call(fresh.ServerURL(stage.Calculator), jungleToken, "add", `{"a":40,"b":2}`).Status)
}

// load is the load during an upgrade: calls of a client through a gateway, and clients
// that are created in Vault. None may fail, and nothing that was answered may be lost.
type load struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
	calls   atomic.Int64
	creates atomic.Int64
	issued  []string // to be read once it has ended
	failed  chan error
}

func (a *applying) startLoad(t *testing.T, url string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{cancel: cancel, failed: make(chan error, 2)}
	t.Cleanup(cancel)
	vault := a.Vault.Client()
	l.running.Go(func() {
		for ctx.Err() == nil {
			if err := callOnce(ctx, url, jungleToken); err != nil && ctx.Err() == nil {
				l.failed <- fmt.Errorf("a call through the gateway failed: %w", err)
				return
			}
			l.calls.Add(1)
		}
	})
	l.running.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			secret, err := vault.Logical().WriteWithContext(context.WithoutCancel(ctx), fmt.Sprintf("mcp/clients/during-%d", i), harness.Map{"allowed_servers": stage.Calculator})
			if err != nil {
				l.failed <- fmt.Errorf("a client could not be created: %w", err)
				return
			}
			token, _ := secret.Data["token"].(string)
			a.Secret(token)
			l.issued = append(l.issued, token)
			l.creates.Add(1)
		}
	})
	return l
}

// await waits until so many more of each have been answered.
func (l *load) await(t *testing.T, n int64) {
	t.Helper()
	calls, creates := l.calls.Load()+n, l.creates.Load()+n
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for l.calls.Load() < calls || l.creates.Load() < creates {
		select {
		case err := <-l.failed:
			t.Fatal(err)
		case <-deadline:
			t.Fatal("the load stands still")
		case <-tick.C:
		}
	}
}

// end stops the load, and fails the test where a part of it failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.cancel()
	l.running.Wait()
	close(l.failed)
	for err := range l.failed {
		t.Fatal(err)
	}
	t.Logf("%d calls, %d clients created", l.calls.Load(), l.creates.Load())
}

// callOnce calls the calculator.
func callOnce(ctx context.Context, url, token string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(harness.CallBody("add", `{"a":40,"b":2}`)))
	if err != nil {
		return err
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": harness.StatelessEra, "Mcp-Method": "tools/call", "Mcp-Name": "add",
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
