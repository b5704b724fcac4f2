package harness

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// GatewayOptions changes a gateway's file.
type GatewayOptions struct {
	// Blocks adds lines to the file's blocks, by name: {"limits": "max_body = \"1KiB\""}.
	// It makes a block that the file does not have, such as stdio.
	Blocks map[string]string
	// Top is added to the file outside all blocks.
	Top string
	// Program is a gateway of another version, instead of the one under test. Its file has
	// nothing that v0.1.0 does not know.
	Program string
	// Env is added to the gateway's environment.
	Env []string
	// Place is the machine on which it runs with TLS, instead of the loopback.
	Place *Place
	// Vault is the URL of the Vault to use instead of the first node's.
	Vault string
	// NotReady makes StartGateway return as soon as the process runs, for gateways
	// that cannot get ready.
	NotReady bool
}

// Gateway is a gateway that was started.
type Gateway struct {
	// URL is where clients connect, without a path; Admin has health and metrics.
	URL, Admin string
	// Config is its file, AuditLog where it writes audit lines.
	Config, AuditLog string
	// Process is the running program.
	Process *process.Process

	h    *Harness
	spec process.Spec
}

// StartGateway starts a gateway with its own login at the harness's Vault, and waits
// until it is ready.
func (h *Harness) StartGateway(opts GatewayOptions) *Gateway {
	h.t.Helper()
	name := fmt.Sprintf("gateway-%d", h.count("gateway"))
	g := &Gateway{
		Config:   filepath.Join(h.Dir, name+".hcl"),
		AuditLog: filepath.Join(h.Dir, name+"-audit.log"),
		h:        h,
	}
	if opts.Vault == "" {
		opts.Vault = h.Vault.Address()
	}
	var listen, admin string
	if place := opts.Place; place == nil {
		listen, admin = FreeAddress(h.t), FreeAddress(h.t)
		g.URL, g.Admin = "http://"+listen, "http://"+admin
	} else {
		listen, admin = net.JoinHostPort(place.Address, gatewayPort), net.JoinHostPort(place.Address, adminPort)
		g.URL, g.Admin = "https://"+net.JoinHostPort(place.Name, gatewayPort), "http://"+net.JoinHostPort(place.Name, adminPort)
	}
	g.Configure(g.file(listen, admin, opts))
	g.spec = process.Spec{
		Name: name,
		Path: cmp.Or(opts.Program, h.Programs.Gateway),
		Args: []string{"-config=" + g.Config},
		Env:  append(RaceEnv(), opts.Env...),
		Log:  filepath.Join(h.Dir, name+".log"),
	}
	if opts.Place != nil {
		g.spec = opts.Place.Enter(g.spec)
	}
	g.run()
	h.t.Cleanup(g.Stop)
	if !opts.NotReady {
		g.AwaitReady()
	}
	return g
}

// file writes the gateway's login, and returns its configuration.
func (g *Gateway) file(listen, admin string, opts GatewayOptions) string {
	g.h.t.Helper()
	roleID, secretID := g.h.loginFiles()
	blocks := map[string]string{
		"vault": fmt.Sprintf("address = %q\nmount = %q\nauth \"approle\" {\n  role_id_file = %q\n  secret_id_file = %q\n}\n",
			opts.Vault, Mount, roleID, secretID),
		"listener": fmt.Sprintf("address = %q\n", listen),
		"admin":    fmt.Sprintf("address = %q\n", admin),
		"audit":    fmt.Sprintf("file = %q\n", g.AuditLog),
		"log":      "level = \"debug\"\n",
	}
	if place := opts.Place; place != nil {
		blocks["listener"] += fmt.Sprintf("tls_cert_file = %q\ntls_key_file = %q\n", place.Certificate, place.Key)
	}
	if server := os.Getenv("TEST_HTTP1"); server != "" && opts.Program == "" {
		blocks["listener"] += fmt.Sprintf("http1 = %q\n", server)
	}
	for name, lines := range opts.Blocks {
		blocks[name] += lines
	}
	var file strings.Builder
	for name, lines := range blocks {
		fmt.Fprintf(&file, "%s {\n%s\n}\n", name, lines)
	}
	return file.String() + opts.Top
}

// loginFiles are the files with the AppRole login that all gateways share.
func (h *Harness) loginFiles() (roleID, secretID string) {
	h.t.Helper()
	roleID, secretID = filepath.Join(h.Dir, "role_id"), filepath.Join(h.Dir, "secret_id")
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.login != nil {
		return roleID, secretID
	}
	login, err := provision.GatewayLogin(h.t.Context(), h.Vault.Client(), policies.GatewayName)
	if err != nil {
		h.t.Fatal(err)
	}
	h.secrets.add(login.SecretID)
	for path, content := range map[string]string{roleID: login.RoleID, secretID: login.SecretID} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	h.login = &login
	return roleID, secretID
}

// Configure replaces the gateway's file; a running gateway reads it on SIGHUP.
func (g *Gateway) Configure(content string) {
	g.h.t.Helper()
	if err := os.WriteFile(g.Config, []byte(content), 0o600); err != nil {
		g.h.t.Fatal(err)
	}
}

func (g *Gateway) run() {
	g.h.t.Helper()
	p, err := g.h.group.Start(g.spec)
	if err != nil {
		g.h.t.Fatal(err)
	}
	g.Process = p
}

// AwaitReady waits until /readyz answers 200.
func (g *Gateway) AwaitReady() {
	g.h.t.Helper()
	err := g.Process.Await(g.h.t.Context(), patience, func(ctx context.Context) error {
		return expect(ctx, g.Admin+"/readyz", http.StatusOK)
	})
	if err != nil {
		g.h.t.Fatal(err)
	}
}

func expect(ctx context.Context, url string, status int) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1000))
	if err != nil {
		return err
	}
	if response.StatusCode != status {
		return fmt.Errorf("%s answers %s: %s", url, response.Status, body)
	}
	return nil
}

// Stop ends the gateway as an operator would: requests in flight may finish.
func (g *Gateway) Stop() { g.Process.Stop(15 * time.Second) }

// Kill ends the gateway with SIGKILL.
func (g *Gateway) Kill() { g.Process.Kill() }

// Restart starts a gateway that was stopped or killed, at the same address.
func (g *Gateway) Restart() {
	g.h.t.Helper()
	g.Stop()
	g.run()
	g.AwaitReady()
}

// ServerURL is where clients reach one registered server.
func (g *Gateway) ServerURL(server string) string { return g.URL + "/servers/" + server + "/mcp" }

// Audit returns the audit lines so far.
func (g *Gateway) Audit() []Map {
	g.h.t.Helper()
	content, err := os.ReadFile(g.AuditLog)
	if err != nil {
		g.h.t.Fatal(err)
	}
	var lines []Map
	for line := range bytes.Lines(content) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		entry := Map{}
		if err := json.Unmarshal(line, &entry); err != nil {
			g.h.t.Fatalf("an audit line is not a JSON object: %v: %s", err, line)
		}
		lines = append(lines, entry)
	}
	return lines
}

// AwaitAudit waits until the audit lines are as wanted: the gateway writes some of them a
// moment after their requests.
func (g *Gateway) AwaitAudit(enough func([]Map) bool) {
	g.h.t.Helper()
	err := g.Process.Await(g.h.t.Context(), patience, func(context.Context) error {
		if lines := g.Audit(); !enough(lines) {
			return fmt.Errorf("the audit log has %v", lines)
		}
		return nil
	})
	if err != nil {
		g.h.t.Fatal(err)
	}
}

// Metrics returns the answer of /metrics.
func (g *Gateway) Metrics() string {
	g.h.t.Helper()
	response := g.h.Do(http.MethodGet, g.Admin+"/metrics", "", nil, "")
	if response.Status != http.StatusOK {
		g.h.t.Fatalf("/metrics answers %d", response.Status)
	}
	return response.Body
}
