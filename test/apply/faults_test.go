package apply

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/apply"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

// failEachWriteOnce takes Vault away at every write that was not met before: that one
// and all later requests of the same run get no answer. With late, the write is carried
// out all the same. The function that is returned begins the next run.
func failEachWriteOnce(f *harness.Front, late bool) (nextRun func()) {
	var mu sync.Mutex
	met, gone := map[string]bool{}, false
	f.Set(func(w http.ResponseWriter, r *http.Request, vault http.Handler) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			cut()
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		// A digest in the record is another one each time, of the same length.
		write := fmt.Sprint(r.Method, r.URL.Path, len(body))
		mu.Lock()
		fresh := isWrite(r) && !met[write] && !gone
		met[write] = met[write] || fresh
		gone = gone || fresh
		silent := gone
		mu.Unlock()
		if fresh && late {
			vault.ServeHTTP(httptest.NewRecorder(), r)
		}
		if silent {
			cut()
		}
		vault.ServeHTTP(w, r)
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		gone = false
	}
}

// TestApplyWhichLosesVaultAtAnyWriteIsCompletedByFurtherRuns takes Vault away at each
// write of a run, once before and once after it is carried out. The run says how far
// it came, each further one goes on from there, and in the end all is as it would
// have been.
func TestApplyWhichLosesVaultAtAnyWriteIsCompletedByFurtherRuns(t *testing.T) {
	// Telling whether a server's secrets are the same takes a second, on purpose.
	headers := map[bool]string{true: `headers = { Authorization = "Bearer ${env("UPSTREAM")}" }`}
	for name, late := range map[string]bool{"the write is lost": false, "the answer is lost": true} {
		t.Run(name, func(t *testing.T) {
			a := newApplying(t)
			f := harness.NewFront(t, a.Vault.Address())
			a.Secret(jungleToken)
			t.Setenv("UPSTREAM", upstreamToken)
			t.Setenv("TOKEN", jungleToken)
			require.NoError(t, a.admin.SetAddress(f.URL))
			a.file(t, "broker.hcl", `
config {
  grace_period = "10m"
}
server "github" {
  transport = "http"
  url       = "http://127.0.0.1:1/mcp"
  `+headers[late]+`
}
client "issued" {
  allowed_servers = ["github"]
}
client "carried-over" {
  access_token_ref { env = "TOKEN" }
}`)
			// In this process, and without asking the plugin each time: dozens of runs are made.
			sum, err := provision.Checksum(a.args[1])
			require.NoError(t, err)
			version, err := exec.CommandContext(t.Context(), a.args[1], "-version").Output()
			require.NoError(t, err)
			run := func() (string, error) {
				var out strings.Builder
				err := apply.Run(t.Context(), a.admin, apply.Options{
					Dir: a.dir, Mount: harness.Mount, Out: &out,
					PluginSHA256: sum, PluginVersion: strings.Fields(string(version))[0], PluginCommand: provision.PluginName,
					TokenDir: filepath.Join(a.Dir, "tokens"), GatewayDir: filepath.Join(a.Dir, "login"),
				})
				noSecret(t, fmt.Sprint(out.String(), err))
				return out.String(), err
			}
			nextRun := failEachWriteOnce(f, late)
			stopped := 0
			for ; ; stopped++ {
				nextRun()
				_, err := run()
				if err == nil {
					break
				}
				for _, want := range []string{"stopped at step ", "Not done:\n", "may be done all the same", "run the same command again. That is safe"} {
					require.ErrorContains(t, err, want)
				}
				require.Less(t, stopped, 100, "it does not come to an end: %s", err)
			}
			require.Greater(t, stopped, 20, "there were fewer writes than was thought")
			t.Logf("%d runs were stopped", stopped)
			f.Set(nil)
			out, err := run()
			require.NoError(t, err)
			require.Contains(t, out, "Nothing to do")
			sent := a.complete(t).Header.Get("Authorization")
			if late {
				require.Equal(t, "Bearer "+upstreamToken, sent)
			}
		})
	}
}

// complete fails the test unless all that the files name is there and works. It
// returns what the server was asked.
func (a *applying) complete(t *testing.T) harness.Request {
	t.Helper()
	issued, err := os.ReadFile(filepath.Join(a.Dir, "tokens", "issued"))
	require.NoError(t, err)
	a.Secret(string(issued))
	for token, client := range map[string]string{string(issued): "issued", jungleToken: "carried-over"} {
		require.Equal(t, client, a.Write("mcp/lookup", harness.Map{"token": token})["client"])
	}
	upstream := a.StartUpstream(nil)
	registered := a.Read("mcp/gateway/servers")["servers"].(harness.Map)["github"].(harness.Map)
	a.Write("mcp/servers/github", harness.Map{"url": upstream.URL, "headers": registered["headers"]}) // which do not follow by themselves
	gateway := a.StartGateway(harness.GatewayOptions{})
	require.Equal(t, http.StatusOK, a.Call(gateway.ServerURL("github"), string(issued), "add", `{"a":40,"b":2}`).Status)
	for _, name := range []string{"role_id", "secret_id"} {
		require.FileExists(t, filepath.Join(a.Dir, "login", name))
	}
	return upstream.Requests()[0]
}

// TestApplyThatIsInterruptedSaysSoAndIsCompletedByTheNextRun presses Ctrl-C while a
// write is under way.
func TestApplyThatIsInterruptedSaysSoAndIsCompletedByTheNextRun(t *testing.T) {
	a := newApplying(t)
	f := harness.NewFront(t, a.Vault.Address())
	a.env = append(a.env, "VAULT_ADDR="+f.URL)
	a.file(t, "clients.json", `[{"name": "first", "allowed_servers": []}, {"name": "second", "allowed_servers": []}]`)
	cmd := exec.CommandContext(t.Context(), a.Programs.Bootstrap, append([]string{"apply", "-f", a.dir}, a.args...)...)
	cmd.Env = a.env
	running := make(chan *os.Process, 1)
	f.Set(func(w http.ResponseWriter, r *http.Request, vault http.Handler) {
		if isWrite(r) && r.URL.Path == "/v1/mcp/clients/first" {
			_, _ = io.Copy(io.Discard, r.Body) // else nobody would notice
			_ = (<-running).Signal(os.Interrupt)
			<-r.Context().Done() // the program hangs up
			cut()
		}
		vault.ServeHTTP(w, r)
	})
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	running <- cmd.Process
	require.Error(t, cmd.Wait())
	require.Equal(t, 1, cmd.ProcessState.ExitCode(), out.String())
	for _, want := range []string{"create client first", "it was interrupted", "Done:\n", "Not done:\n  create client first\n  create client second\n", "run the same command again. That is safe"} {
		require.Contains(t, out.String(), want)
	}
	f.Set(nil)
	require.Contains(t, a.applied(t), "create client second")
	require.Contains(t, a.applied(t), "Nothing to do")
}

// isWrite tells whether a request may change something in Vault.
func isWrite(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != "LIST" && r.URL.Path != "/v1/mcp/lookup"
}

// cut ends the connection without an answer.
func cut() { panic(http.ErrAbortHandler) }
