package upstream

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/collector"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/upstream/bed"
	"vault-plugin-secrets-mcp/test/upstream/servers"
)

// TestNoClientGetsTheCredentialsOfAnother has twenty clients use a server of each transport
// at one time, while leases are revoked, certificates are replaced, clients lose their
// access and get it back, and the gateway restarts. Every answer comes from credentials of
// the client that asked.
func TestNoClientGetsTheCredentialsOfAnother(t *testing.T) {
	t.Parallel()
	apart(t, false)
}

// TestNoClientGetsTheDatabaseRoleOfAnother is the same with a database: current_user is the
// client's own role.
func TestNoClientGetsTheDatabaseRoleOfAnother(t *testing.T) { apart(t, true) }

// clients is how many there are.
const clients = 20

// crowd are clients that use servers all the time.
type crowd struct {
	w      *surroundings
	tokens [clients]token
	end    time.Time

	mu      sync.Mutex
	answers map[string]int               // by server
	owners  map[string]map[string]string // by server, and by serial number or role: the client
	wrong   []string
}

// token is a client's token, which others replace.
type token struct {
	mu   sync.Mutex
	text string
}

func (c *token) get() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text
}

func apart(t *testing.T, database bool) {
	t.Helper()
	w := newSurroundings(t, settings{certificate: "12s", database: database, roleTTL: "12s", roleMaxTTL: "15s"})
	c := &crowd{
		w: w, end: time.Now().Add(duration(t, "UPSTREAM_CHURN", 12*time.Second)),
		answers: map[string]int{}, owners: map[string]map[string]string{},
	}
	for i := range c.tokens {
		c.tokens[i].text = w.client(fmt.Sprint("client-", i), nil)
	}
	transports := []string{web, old, child, notes}
	if database {
		transports = []string{orders}
	}
	var group sync.WaitGroup
	for i := range clients {
		for _, server := range transports {
			group.Go(func() { c.use(i, server) })
		}
	}
	for _, disturb := range []func(){c.revokeLeases, c.revokeClients, c.restart} {
		group.Go(disturb)
	}
	group.Wait()
	c.judge(transports)
}

func (c *crowd) over() bool { return time.Now().After(c.end) }

// use has one client call one server until the end. Calls may fail: the gateway restarts,
// and clients lose their access. Each answer must be the client's own.
func (c *crowd) use(i int, server string) {
	for !c.over() {
		session, err := c.w.tryConnect(server, c.tokens[i].get())
		for err == nil && !c.over() {
			if err = c.call(i, server, session); err == nil {
				pause(20 * time.Millisecond)
			}
		}
		if session != nil {
			_ = session.Close()
		}
		pause(50 * time.Millisecond)
	}
}

// call makes one call, and notes whose credentials the server had.
func (c *crowd) call(i int, server string, session *mcp.ClientSession) error {
	client := fmt.Sprint("client-", i)
	if server == orders {
		row, err := tryAsk[servers.Row](c.w.t, session, "whoami", harness.Map{})
		if err == nil {
			c.note(server, client, row.User)
		}
		return err
	}
	if server == notes {
		note, err := tryAsk[servers.Reading](c.w.t, session, "read", servers.Place{Path: "kv/data/notes/mcp:" + client})
		if err == nil && note.Status == 200 {
			text := fmt.Sprint(note.Data["data"])
			c.mu.Lock()
			c.answers[server]++
			if !strings.Contains(text, "a note of "+client+"]") {
				c.wrong = append(c.wrong, client+" reads "+text)
			}
			c.mu.Unlock()
		}
		return err
	}
	seen, err := tryAsk[servers.Sight](c.w.t, session, "look", harness.Map{})
	if err != nil {
		return err
	}
	c.w.declare(&seen)
	if token := seen.Header.Get("Authorization"); server == web && token != "Bearer github-token-of-"+client {
		c.mu.Lock()
		c.wrong = append(c.wrong, client+" has the secret "+token)
		c.mu.Unlock()
	}
	c.note(server, client, seen.Header.Get("X-Serial")+seen.Env["LEASED_SERIAL"])
	return nil
}

// note notes an answer. A credential that two clients were answered with is wrong.
func (c *crowd) note(server, client, credential string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[server]++
	if c.owners[server] == nil {
		c.owners[server] = map[string]string{}
	}
	if owner, known := c.owners[server][credential]; known && owner != client {
		c.wrong = append(c.wrong, fmt.Sprintf("%s was answered with the credential %s of %s", client, credential, owner))
	}
	c.owners[server][credential] = client
}

// revokeLeases has an administrator revoke leases behind the gateway's back.
func (c *crowd) revokeLeases() {
	for !c.over() {
		if leases := bed.AllLeases(c.w.Harness); len(leases) > 0 {
			_, _ = c.w.TryWrite("sys/leases/revoke", harness.Map{"lease_id": leases[rand.IntN(len(leases))]})
		}
		pause(200 * time.Millisecond)
	}
}

// revokeClients takes access away from clients, and gives it back.
func (c *crowd) revokeClients() {
	for !c.over() {
		i := rand.IntN(clients)
		name := fmt.Sprint("client-", i)
		if _, err := c.w.TryWrite("mcp/revoke-client/"+name, nil); err == nil {
			if answer, err := c.w.TryWrite("mcp/rotate-client/"+name, nil); err == nil {
				c.tokens[i].mu.Lock()
				c.tokens[i].text = c.w.Token(answer)
				c.tokens[i].mu.Unlock()
			}
		}
		pause(500 * time.Millisecond)
	}
}

// restart kills the gateway, and starts it again. Between that, certificates are replaced.
func (c *crowd) restart() {
	for {
		pause(9 * time.Second)
		if c.over() {
			return
		}
		c.w.gateway.Kill()
		c.w.gateway.Restart()
	}
}

// judge examines the records.
func (c *crowd) judge(transports []string) {
	t := c.w.t
	for _, text := range c.wrong {
		t.Error(text)
	}
	for _, server := range transports {
		if c.answers[server] < clients {
			t.Errorf("%s has answered %d times only", server, c.answers[server])
		}
		for credential, client := range c.owners[server] {
			if server == orders {
				continue // whose roles are compared with each other
			}
			name, _, err := bed.Certificate(t.Context(), c.w.Harness, credential)
			if err != nil || name != "mcp:"+client {
				t.Errorf("%s was answered with a certificate of %s at %s (%v)", client, name, server, err)
			}
			for _, another := range transports {
				if _, shared := c.owners[another][credential]; shared && another != server {
					t.Errorf("the credential %s was at %s and at %s", credential, server, another)
				}
			}
		}
		t.Logf("%s: %d answers, %d credentials", server, c.answers[server], len(c.owners[server]))
	}
	c.w.noSecretInMetrics()
}

// noSecretInMetrics searches the pages that the gateway shows without authentication.
// The harness searches the logs.
func (w *surroundings) noSecretInMetrics() {
	w.t.Helper()
	path := w.Dir + "/metrics.log"
	require.NoError(w.t, os.WriteFile(path, []byte(w.gateway.Metrics()), 0o600))
}

// pause lets other goroutines run, in a loop without other waits.
func pause(d time.Duration) { <-time.After(d) }

// duration is how long a test goes on: in its short form, or as a variable says.
func duration(t *testing.T, variable string, short time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return short
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err, variable)
	return d
}

// TestASharedServerMayNotHaveCredentials: one child cannot have those of each client.
func TestASharedServerMayNotHaveCredentials(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{noGateway: true})
	for name, more := range map[string]harness.Map{
		"credentials": {"credentials": harness.Map{"cert": certificate}, "env": harness.Map{"LEASED_SERIAL": "{{cert.serial_number}}"}},
		"a token":     {"vault_policies": bed.ServerPolicy, "env": harness.Map{"VAULT_TOKEN": "{{vault.token}}"}},
		"files":       {"files": harness.Map{"a": "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			registration := harness.Map{"transport": "stdio", "command": w.program, "shared": true}
			for field, value := range more {
				registration[field] = value
			}
			_, err := w.In(t).TryWrite("mcp/servers/shared", registration)
			require.ErrorContains(t, err, "shared")
		})
	}
}

// TestNoLeasedValueIsInALog: the harness searches all logs after every test. Here a server
// says all that it has been given before it ends, so that the gateway has it in the
// server's last lines. The gateway sends its traces, with all that it tells in them.
func TestNoLeasedValueIsInALog(t *testing.T) {
	t.Parallel()
	traces := collector.Start()
	t.Cleanup(traces.Close)
	w := newSurroundings(t, settings{gateway: harness.GatewayOptions{Env: []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + traces.URL, "OTEL_LOG_TOOL_DETAILS=1",
	}}})
	token := w.client("c", nil)
	seen := w.look(w.connect(child, token))
	require.NotEmpty(t, seen.Files["LEASED_FILE_KEY"])
	w.Leased(base64.StdEncoding.EncodeToString([]byte("deploy:github-token-of-c")))
	w.look(w.connect(web, token))
	w.Write("mcp/servers/loud", harness.Map{
		"transport": "stdio", "command": w.program,
		"credentials": harness.Map{
			"gh":  "kv/data/mcp/{{client.alias}}/github",
			"otp": harness.Map{"path": "ssh/creds/otp", "method": "write", "data": harness.Map{"ip": "127.0.0.1"}},
		},
		"env": harness.Map{
			servers.Variable: servers.Loud, "LEASED_TOKEN": "{{gh.data.token}}", "LEASED_BASIC": "{{otp.username|basic:gh.data.token}}",
			"LEASED_FILE_NETRC": "{{file.netrc}}",
		},
		"files": harness.Map{"netrc": "password {{gh.data.token}}"},
	})
	w.Eventually("the server is known, and ends", func() error {
		_, err := w.tryConnect("loud", token)
		log, readErr := os.ReadFile(w.gateway.Process.Log())
		if err == nil || !strings.Contains(string(log), servers.LastWords) {
			return errors.Join(errors.New("it does not"), err, readErr)
		}
		return nil
	})
	w.noSecretInMetrics()
	w.gateway.Stop() // which sends the last of them
	require.NotEmpty(t, traces.Spans())
	require.NoError(t, os.WriteFile(w.Dir+"/traces.log", []byte(traces.Raw()), 0o600))
}
