package engine

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/harness"
)

// tokens is how many are looked up in turn.
const tokens = 100

const callerPolicy = `
path "mcp/*"              { capabilities = ["create", "read", "update"] }
path "auth/token/lookup"  { capabilities = ["update"] }
path "auth/token/create"  { capabilities = ["update"] }
`

// stage is a Vault with what is asked of it, and its two processes.
type stage struct {
	h             *harness.Harness
	address       string
	vault, plugin int // process ids

	builtIn, own, inRole []string // tokens
}

func newStage(t testing.TB, h *harness.Harness) *stage {
	t.Helper()
	if err := h.Vault.Client().Sys().PutPolicy("bench", callerPolicy); err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(h.Vault.Address())
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{h: h, address: address.Host}
	s.findProcesses(t)
	servers := harness.Map{"allowed_servers": "github,calculator"}
	h.Write("mcp/roles/bench", servers)
	for i := range tokens {
		s.builtIn = append(s.builtIn, s.issue(t, false))
		s.own = append(s.own, h.CreateClient(fmt.Sprintf("bench-%d", i), harness.Map{"allowed_servers": servers["allowed_servers"], "token_ttl": "24h"}))
		s.inRole = append(s.inRole, h.CreateClient(fmt.Sprintf("bench-role-%d", i), harness.Map{"role": "bench", "token_ttl": "24h"}))
	}
	return s
}

// findProcesses finds those that run out of the test's folder: the plugin by its
// program, and Vault, which has started it.
func (s *stage) findProcesses(t testing.TB) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		exe, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(exe, s.h.Dir) {
			continue
		}
		s.plugin = measure.Number(t, filepath.Base(filepath.Dir(link)))
		s.vault = measure.Parent(t, s.plugin)
		return
	}
	t.Fatal("the plugin does not run")
}

// issue makes a token of Vault's own.
func (s *stage) issue(t testing.TB, defaultPolicy bool) string {
	t.Helper()
	made, err := s.h.Vault.Client().Auth().Token().Create(&api.TokenCreateRequest{
		Policies: []string{"bench"}, NoDefaultPolicy: !defaultPolicy, TTL: "24h",
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.Auth.ClientToken
}

// groups are the paths that are compared with each other: the first of each is
// Vault's own.
func (s *stage) groups(t testing.TB) [][]target {
	t.Helper()
	const (
		lookup, create = "`auth/token/lookup`", "`auth/token/create`"
		with, without  = "a caller with the default policy", "a caller without the default policy"
	)
	var all [][]target
	for _, caller := range []string{without, with} {
		token := s.issue(t, caller == with)
		request := func(method, path, body string) []byte { return s.request(method, token, path, body) }
		builtIn, own, inRole := make([][]byte, tokens), make([][]byte, tokens), make([][]byte, tokens)
		for i := range tokens {
			builtIn[i] = request("POST", "auth/token/lookup", fmt.Sprintf(`{"token":%q}`, s.builtIn[i]))
			own[i] = request("POST", "mcp/lookup", fmt.Sprintf(`{"token":%q}`, s.own[i]))
			inRole[i] = request("POST", "mcp/lookup", fmt.Sprintf(`{"token":%q}`, s.inRole[i]))
		}
		all = append(all, []target{
			{caller: caller, name: lookup, requests: builtIn},
			{caller: caller, name: "`mcp/lookup`", beside: lookup, requests: own},
			{caller: caller, name: "`mcp/lookup` of a client with a role", beside: lookup, requests: inRole},
			// The way to the plugin and back, with nothing to do there: once as a write,
			// for which Vault calls the plugin twice, and once as a read.
			{caller: caller, name: "`mcp/lookup` of a malformed token", beside: lookup, requests: [][]byte{request("POST", "mcp/lookup", `{"token":"malformed"}`)}},
			{caller: caller, name: "`mcp/tidy/status`", beside: lookup, requests: [][]byte{request("GET", "mcp/tidy/status", "")}},
		})
	}
	token, leases := s.issue(t, false), "leases, a caller without the default policy"
	return append(all, []target{
		{caller: leases, name: create, requests: [][]byte{s.request("POST", token, "auth/token/create", `{"policies":["bench"],"no_default_policy":true,"ttl":"1h"}`)}},
		{caller: leases, name: "`mcp/creds`", beside: create, requests: [][]byte{s.request("GET", token, "mcp/creds/bench-0", "")}},
	})
}

// request is one as it goes over the wire.
func (s *stage) request(method, token, path, body string) []byte {
	return fmt.Appendf(nil, "%s /v1/%s HTTP/1.1\r\nHost: %s\r\nX-Vault-Token: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		method, path, s.address, token, len(body), body)
}
