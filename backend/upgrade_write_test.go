//go:build dump

package backend

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// TestWriteADump writes the storage of a mount in use. It is run once for a version
// that is released, by that version's own code:
//
//	go test -tags dump -run '^TestWriteADump$' ./backend
func TestWriteADump(t *testing.T) {
	e := newEnv(t)
	require.NoError(t, e.b.Initialize(context.Background(), &logical.InitializationRequest{Storage: e.storage}))
	d := &dump{
		Version: "v0.1.0", Tokens: map[string]string{}, Accessors: map[string]string{}, Leases: map[string]dumpLease{},
		Lookups: map[string]data{}, Decisions: map[string]string{}, Gateway: map[string]data{},
		Clients: map[string]data{}, Servers: map[string]data{}, Policies: map[string]data{},
	}
	useTheMount(e, d)
	d.record(e)
	require.NoError(t, os.MkdirAll(filepath.Dir(dumpFile), 0o755))
	b, err := json.MarshalIndent(d, "", " ")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(dumpFile, append(b, '\n'), 0o644))
}

// useTheMount has one of everything that the engine keeps.
func useTheMount(e *env, d *dump) {
	e.write("config", data{"default_ttl": "720h", "max_ttl": "2000h", "min_custom_token_length": 24})
	e.write("servers/calculator", data{"transport": "http", "url": "https://calculator.example.com/mcp?key=k-123", "headers": data{"Authorization": "Bearer upstream-secret"}, "description": "adds"})
	e.write("servers/github", data{"transport": "sse", "url": "https://github.example.com/sse", "headers": data{"X-Team": "${TEAM}"}})
	e.write("servers/notes", data{"transport": "stdio", "command": "/usr/local/bin/notes", "args": []string{"--root", "/srv/notes"}, "env": data{"NOTES_KEY": "env-secret"}, "shared": true})
	e.write("policies/corp", data{"managed": true, "deniedMcpServers": []any{data{"serverUrl": "https://*.evil.example/*"}}})
	e.write("policies/team", data{"allowedMcpServers": []any{data{"serverName": "calculator"}, data{"serverCommand": []any{"/usr/local/bin/notes", "--root", "/srv/notes"}}}})
	e.write("policies/open", data{"mcpServers": data{}})

	all := "calculator,github,notes"
	d.Tokens["plain"] = e.client("plain", data{"allowed_servers": all, "metadata": data{"team": "core"}})
	d.Tokens["ruled"] = e.client("ruled", data{"allowed_servers": all, "policies": "team", "denied_tools": "notes/delete_*", "token_bound_cidrs": "10.0.0.0/8"})
	d.Tokens["open"] = e.client("open", data{"allowed_servers": all, "policies": "open"})
	d.Tokens["rotated-old"] = e.client("rotated", data{"allowed_servers": "calculator"})
	d.Tokens["rotated-new"] = e.rotate("rotated", data{"grace_period": "24h", "rotation_id": "first"})
	d.Tokens["revoked"] = e.client("revoked", data{"allowed_servers": "calculator"})
	e.write("revoke-client/revoked", nil)
	d.Tokens["disabled"] = e.client("disabled", data{"allowed_servers": "calculator"})
	e.write("clients/disabled", data{"disabled": true})
	d.Tokens["custom"] = "custom-token-of-the-dump-0001"
	e.write("clients/custom", data{"allowed_servers": "calculator", "access_token": d.Tokens["custom"]})
	d.Tokens["spent"] = "custom-token-of-the-dump-0002"
	e.write("clients/spent", data{"allowed_servers": "calculator", "access_token": d.Tokens["spent"]})
	e.write("revoke", data{"token": d.Tokens["spent"]})
	d.Tokens["deleted"] = e.client("deleted", data{"allowed_servers": all})
	e.delete("clients/deleted")
	d.Tokens["short"] = e.client("short", data{"allowed_servers": all, "token_ttl": "10m"})

	e.client("leasing", data{"allowed_servers": all, "token_ttl": "1h", "token_max_ttl": "6h"})
	for _, name := range []string{"first", "second", "ended"} {
		l := e.lease("leasing", data{"ttl": "30m"})
		d.Leases[name] = dumpLease{Token: l.token, Secret: l.secret, Data: l.data}
		d.Tokens["leased-"+name] = l.token
	}
	ended := d.Leases["ended"]
	require.NoError(e.t, e.revokeLease(&lease{token: ended.Token, secret: ended.Secret, data: ended.Data}))
	e.write("gateway/keys/rotate", nil)
	e.clock.Advance(15 * time.Minute) // the token of short has run out
}

// record stores the answers of this version.
func (d *dump) record(e *env) {
	d.Time = e.clock.Now()
	for name, token := range d.Tokens {
		d.Lookups[name] = e.lookup(token)
		if accessor, ok := d.Lookups[name]["accessor"].(string); ok {
			d.Accessors[name] = accessor
		}
	}
	for _, name := range e.list("clients/") {
		d.Clients[name] = e.read("clients/" + name)
		for _, server := range e.list("servers/") {
			d.Decisions[name+" "+server] = e.write("evaluate", data{"client": name, "server": server}).Data["decision"].(string)
		}
	}
	for _, name := range e.list("servers/") {
		d.Servers[name] = e.read("servers/" + name)
	}
	for _, name := range e.list("policies/") {
		d.Policies[name] = e.read("policies/" + name)
	}
	d.Config = e.read("config")
	for _, path := range []string{"gateway/servers", "gateway/keys"} {
		d.Gateway[path] = e.read(path)
	}
	head := e.read("changes")
	d.Feed = data{"epoch": head["epoch"], "index": head["index"]}
	d.Storage = map[string][]byte{}
	for _, key := range e.keys("") {
		entry, err := e.storage.Get(context.Background(), key)
		require.NoError(e.t, err)
		d.Storage[key] = entry.Value
	}
}
