package dev

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/bootstrap/apply"
)

// valid are options that pass, with ports that are free.
func valid(t *testing.T) Options {
	t.Helper()
	return Options{
		Dir:            filepath.Join(t.TempDir(), "dev"),
		VaultAddress:   freeAddress(t),
		GatewayAddress: freeAddress(t),
		AdminAddress:   freeAddress(t),
		Vault:          "/bin/sh",
		Plugin:         "/bin/sh",
		Gateway:        "/bin/sh",
		Self:           "/bin/sh",
		Out:            t.Output(),
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener := listen(t)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func TestWhatWouldGoWrongIsSaidBeforeAnythingIsStarted(t *testing.T) {
	taken, other := listen(t).Addr().String(), listen(t).Addr().String()
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	clients, demos := filepath.Join(filepath.Dir(text), "clients.json"), filepath.Join(filepath.Dir(text), "demos.hcl")
	leased := filepath.Join(filepath.Dir(text), "leased.hcl")
	for path, content := range map[string]string{
		clients: `{"name": "a", "allowed_servers": []}`,
		demos:   "server \"calculator\" {\n  transport = \"http\"\n  url = \"http://127.0.0.1:1/mcp\"\n}\n",
		leased:  "server \"whoami-http\" {\n  transport = \"http\"\n  url = \"http://127.0.0.1:1/mcp\"\n}\n",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		change func(*Options)
		want   []string
	}{
		{"no Vault", func(o *Options) { o.Vault = "/no/vault" }, []string{"/no/vault", "-vault-binary", "make vault"}},
		{"no plugin", func(o *Options) { o.Plugin = "/no/plugin" }, []string{"/no/plugin", "make build"}},
		{"no gateway", func(o *Options) { o.Gateway = "/no/gateway" }, []string{"/no/gateway", "make build"}},
		{"no double of KMS", func(o *Options) { o.KMS, o.KMSDouble = true, "/no/kms" }, []string{"/no/kms", "ARGS=-kms"}},
		{"a folder for a program", func(o *Options) { o.Gateway = "/" }, []string{"not an executable file"}},
		{"a text for a program", func(o *Options) { o.Gateway = text }, []string{text, "not an executable file"}},
		{"Vault's port in use", func(o *Options) { o.VaultAddress = taken }, []string{taken, "in use", "-vault-address 127.0.0.1:PORT"}},
		{"the gateway's port in use", func(o *Options) { o.GatewayAddress = taken }, []string{taken, "in use", "-gateway-address"}},
		{"the health's port in use", func(o *Options) { o.AdminAddress = taken }, []string{taken, "in use", "-admin-address"}},
		{"an address for everybody", func(o *Options) { o.VaultAddress = "0.0.0.0:8200" }, []string{"0.0.0.0:8200", "not on the loopback"}},
		{"an address of another machine", func(o *Options) { o.GatewayAddress = "192.0.2.1:8080" }, []string{"192.0.2.1:8080", "-gateway-address", "not on the loopback"}},
		{"a name that has no address", func(o *Options) { o.GatewayAddress = "nowhere.invalid:8080" }, []string{"nowhere.invalid:8080", "-gateway-address", "no address"}},
		{"all interfaces", func(o *Options) { o.GatewayAddress = ":8080" }, []string{`":8080"`, "-gateway-address"}},
		{"a port that is not valid", func(o *Options) { o.GatewayAddress = "localhost:http" }, []string{"localhost:http", "-gateway-address"}},
		{"one address twice", func(o *Options) { o.AdminAddress = o.GatewayAddress }, []string{"-admin-address", "the address of -gateway-address, too"}},
		{"a port in use, under its name", func(o *Options) { o.GatewayAddress = strings.Replace(taken, "127.0.0.1", "localhost", 1) }, []string{taken, "in use"}},
		{"all at once", func(o *Options) {
			o.VaultAddress, o.AdminAddress, o.Plugin, o.Gateway = taken, other, "/no/plugin", "/no/gateway"
		}, []string{
			"/no/plugin", "/no/gateway", "Vault cannot listen on " + taken, "the gateway's health cannot listen on " + other,
			`make dev ARGS="-vault-address 127.0.0.1:PORT -admin-address 127.0.0.1:PORT"`,
		}},
		{"what is kept, of three Vaults", func(o *Options) { o.Keep, o.HA = true, true }, []string{"-keep", "-ha"}},
		{"an address without a port", func(o *Options) { o.VaultAddress = "127.0.0.1" }, []string{"127.0.0.1", "-vault-address"}},
		{"a file of servers that is not there", func(o *Options) { o.Servers = "/no/servers.json" }, []string{"-servers", "/no/servers.json"}},
		{"a file of servers in no known form", func(o *Options) { o.Servers = text }, []string{text, ".hcl, .json or .toml"}},
		{"a file with a client in it", func(o *Options) { o.Servers = clients }, []string{clients, "servers alone", "mcp-bootstrap apply"}},
		{"a server with the name of a demo", func(o *Options) { o.Servers = demos }, []string{demos, "calculator", "another name"}},
		{"a server with the name of a demo of -upstream", func(o *Options) { o.Servers, o.Upstream = leased, true }, []string{leased, "whoami-http, whoami-stdio", "another name"}},
		{"port 0", func(o *Options) { o.VaultAddress = "127.0.0.1:0" }, []string{"127.0.0.1:0", "-vault-address"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := valid(t)
			test.change(&opts)
			err := Run(t.Context(), opts)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing in: %v", want, err)
				}
			}
			if _, err := os.Stat(opts.Dir); err == nil {
				t.Error("the folder was made")
			}
		})
	}
}

func TestAVaultThatDoesNotComeUpIsAnErrorAndLeavesNoSecretBehind(t *testing.T) {
	opts := valid(t)
	opts.Vault = "/bin/false"
	err := Run(t.Context(), opts)
	if err == nil || !strings.Contains(err.Error(), "Vault ended by itself (exit status 1)") {
		t.Errorf("err = %v", err)
	}
	for _, name := range []string{envFile, headersFile, roleIDFile, secretIDFile} {
		if _, err := os.Stat(filepath.Join(opts.Dir, name)); err == nil {
			t.Errorf("%s is left behind", name)
		}
	}
}

func TestAFolderIsForOneSystemAtATime(t *testing.T) {
	s := &system{Options: valid(t)}
	unlock, err := s.prepareDir()
	if err != nil {
		t.Fatal(err)
	}
	opts := valid(t)
	opts.Dir = s.Dir
	if err := Run(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "uses the folder "+s.Dir) {
		t.Errorf("err = %v", err)
	}
	unlock()
	if unlock, err = s.prepareDir(); err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestTheShellsSettingsForAnotherVaultAreDropped(t *testing.T) {
	for _, name := range []string{"VAULT_ADDR", "VAULT_TOKEN", "BAO_ADDR", "MCP_GATEWAY_LISTEN", "SOMETHING_ELSE"} {
		t.Setenv(name, "x")
	}
	clearEnvironment()
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "VAULT_") || strings.HasPrefix(name, "BAO_") || strings.HasPrefix(name, "MCP_") {
			t.Errorf("%s is still set", name)
		}
	}
	if os.Getenv("SOMETHING_ELSE") == "" {
		t.Error("SOMETHING_ELSE was dropped too")
	}
}

func TestFilesAreTheirOwnersAloneEvenWhereOlderOnesWereNot(t *testing.T) {
	s := &system{Options: Options{Dir: t.TempDir(), Upstream: true}}
	for _, name := range []string{envFile, whoamiHeadersFile} {
		if err := os.WriteFile(s.path(name), []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.writeClientFiles(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{envFile, headersFile, connectOnlyFile, bodyFile, whoamiHeadersFile} {
		info, err := os.Stat(s.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	s.removeSecrets()
	for _, name := range []string{envFile, headersFile, connectOnlyFile, whoamiHeadersFile} {
		if _, err := os.Stat(s.path(name)); err == nil {
			t.Errorf("%s is left behind", name)
		}
	}
}

func TestTheFileOfVariablesPutsTheProgramsOnThePATHWhateverThePATHIs(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", filepath.Join(dir, ".cache")+":"+os.Getenv("PATH"))
	opts := valid(t)
	opts.Vault, opts.Self = filepath.Join(dir, ".cache", "vault"), filepath.Join(dir, "bin", "mcp-bootstrap")
	s := &system{Options: opts}
	want := "export PATH=\"$PATH\":'" + filepath.Join(dir, ".cache") + "':'" + filepath.Join(dir, "bin") + "'\n"
	if got := s.onPath(); got != want || s.shownVault() != "vault" {
		t.Errorf("the line is %q, not %q; vault is called %q", got, want, s.shownVault())
	}
}

func TestANameOfTheLoopbackIsAnAddressOfIt(t *testing.T) {
	for address, want := range map[string]string{
		"localhost:8080": "127.0.0.1:8080", "127.0.0.2:1": "127.0.0.2:1", "[::1]:8080": "[::1]:8080",
	} {
		if got, err := loopback(t.Context(), "-x", address); err != nil || got != want {
			t.Errorf("%s: %q, %v", address, got, err)
		}
	}
}

// TestTheSummaryFitsATerminal: a terminal of 80 columns does not break a line of the
// summary. Sealed tokens and paths from elsewhere are as long as they
// are.
func TestTheSummaryFitsATerminal(t *testing.T) {
	t.Chdir(t.TempDir())
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*system){
		"plain":  func(*system) {},
		"kept":   func(s *system) { s.Keep, s.sameToken = true, true },
		"ha":     func(s *system) { s.HA = true },
		"kms":    func(s *system) { s.kms = map[string]string{"AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:45859"} },
		"leased": func(s *system) { s.Upstream = true },
		"own":    func(s *system) { s.own = []apply.Server{{Name: "a-server-of-mine"}} },
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			s := &system{
				Options: Options{
					Dir: filepath.Join(wd, ".dev"), Vault: filepath.Join(wd, ".cache", "vault"), VaultAddress: "127.0.0.1:8200",
					GatewayAddress: "127.0.0.1:8080", AdminAddress: "127.0.0.1:8081",
				},
				progress: progress{&out}, clientToken: "mcpt_" + strings.Repeat("x", 49),
			}
			if err := os.MkdirAll(s.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			change(s)
			if err := s.summarize(); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out.String()) {
				if length := len([]rune(strings.TrimSuffix(line, "\n"))); length > 80 {
					t.Errorf("%d columns: %s", length, line)
				}
			}
			_, config, _ := strings.Cut(out.String(), ":\n\n")
			config, _, _ = strings.Cut(config, "\n\n")
			if !json.Valid([]byte(config)) {
				t.Errorf("not JSON: %s", config)
			}
		})
	}
}

func TestWhatCannotBeGoneOnWithIsSaid(t *testing.T) {
	s := &system{Options: Options{Dir: t.TempDir(), Keep: true}}
	if err := os.WriteFile(s.path(keptFile), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.readKept(); err == nil || !strings.Contains(err.Error(), s.path(keptFile)) {
		t.Errorf("err = %v", err)
	}
	s.kept = kept{UnsealKey: "a", RootToken: "b"}
	if err := s.saveKept(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.path(keptFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again := &system{Options: s.Options}
	if err := again.readKept(); err != nil || again.kept != s.kept || again.rootToken != "b" {
		t.Errorf("%+v, %v", again.kept, err)
	}
	// A storage without its key is begun again.
	if err := os.MkdirAll(s.path(storageDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.path(keptFile)); err != nil {
		t.Fatal(err)
	}
	if err := (&system{Options: s.Options}).readKept(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.path(storageDir)); err == nil {
		t.Error("it is still there")
	}
}

func TestDevModesSecretsStayOutOfTheLog(t *testing.T) {
	for line, want := range map[string]bool{
		"Root Token: dev-x\n":               false,
		"Unseal Key: abc=\n":                false,
		"[INFO]  core: vault is unsealed\n": true,
	} {
		if got := keepLine([]byte(line)); got != want {
			t.Errorf("keepLine(%q) = %v", line, got)
		}
	}
}

func TestPathsAreShownAsTheyAreTyped(t *testing.T) {
	wd := t.TempDir()
	t.Chdir(wd)
	for path, want := range map[string]string{
		filepath.Join(wd, ".dev", "env"):   ".dev/env",
		filepath.Join(wd, "my dev", "env"): "'my dev/env'",
		filepath.Join(wd, "it's", "env"):   `'it'\''s/env'`,
		filepath.Join(wd, "..", "a", "b"):  filepath.Join(filepath.Dir(wd), "a", "b"),
	} {
		if got := shown(path); got != want {
			t.Errorf("shown(%q) = %s, want %s", path, got, want)
		}
	}
}
