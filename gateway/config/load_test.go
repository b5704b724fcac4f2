package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// folder is a folder with the files that tests name.
func folder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"role_id", "secret_id", "proxy_password", "broken.pem"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "intranet_secret"), []byte("correct-horse-battery-staple\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "private.jwks"), []byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`), 0o600))
	certificate, key := selfSigned(t)
	for name, content := range map[string][]byte{"tls.crt": certificate, "tls.key": key, "ca.pem": certificate} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "program"), []byte("x"), 0o700))
	return dir
}

// selfSigned makes a certificate and its key, in PEM, once for all tests.
func selfSigned(t testing.TB) (certificate, key []byte) {
	t.Helper()
	pair, err := makeSelfSigned()
	require.NoError(t, err)
	return pair[0], pair[1]
}

var makeSelfSigned = sync.OnceValues(func() (pair [2][]byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return pair, err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return pair, err
	}
	pair[0] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	pair[1] = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})
	return pair, nil
})

const minimal = `vault {
  auth "approle" {
    role_id        = "role"
    secret_id_file = "DIR/secret_id"
  }
}
`

func noEnvironment(string) string { return "" }

func parse(t testing.TB, source string, getenv func(string) string) (*Config, error) {
	t.Helper()
	return Parse([]byte(strings.ReplaceAll(source, "DIR", folder(t))), "gateway.hcl", getenv)
}

func TestSmallestFileHasTheDefaults(t *testing.T) {
	c, err := parse(t, minimal, noEnvironment)
	require.NoError(t, err)
	require.Equal(t, "https://127.0.0.1:8200", c.Vault.Address.String())
	require.Equal(t, "mcp", c.Vault.Mount)
	require.Equal(t, "approle", c.Vault.Auth.Mount)
	require.Equal(t, "127.0.0.1:8080", c.Listener.Address)
	require.Equal(t, "127.0.0.1:8081", c.Admin.Address)
	require.Equal(t, Grants{
		MaxStale: 30 * time.Second, NegativeTTL: 30 * time.Second, MaxEntries: 100_000, Wait: 5 * time.Second,
		ColdRate: 500, ColdBurst: 1000, ColdSourceRate: 20, ColdSourceBurst: 100,
	}, c.Grants)
	require.Equal(t, AuditStdout, c.Audit.File)
	require.Nil(t, c.Stdio, "stdio is off")
	require.True(t, c.UpstreamAllow.Empty())
	require.Equal(t, 5*time.Minute, c.Upstream("anything").Timeout)
	require.EqualValues(t, 4<<20, c.Limits.MaxBody)
	require.Equal(t, Log{Level: "info", Format: "json"}, c.Log)
}

func TestExampleFileIsGood(t *testing.T) {
	source, err := os.ReadFile("example.hcl")
	require.NoError(t, err)
	dir := folder(t)
	text := strings.NewReplacer("/etc/mcp-gateway", dir, "/var/log/mcp-gateway", dir, "/usr/local/bin/mcp-files", dir+"/program").Replace(string(source))
	c, err := Parse([]byte(text), "example.hcl", noEnvironment)
	require.NoError(t, err)
	require.Equal(t, "mcp.example.com", c.Listener.PublicURL.Host)
	require.Equal(t, []string{"*.example.com"}, c.UpstreamAllow.Hosts)
	require.Len(t, c.UpstreamAllow.Prefixes, 1)
	require.Equal(t, time.Minute, c.Upstream("github").Timeout)
	require.Equal(t, []string{dir + "/program"}, c.Stdio.AllowedCommands)
}

// TestExampleFileShowsEverySetting: settings that are commented out there have their
// default, and no setting is missing.
func TestExampleFileShowsEverySetting(t *testing.T) {
	source, err := os.ReadFile("example.hcl")
	require.NoError(t, err)
	var all strings.Builder
	for line := range strings.Lines(string(source)) {
		text := strings.TrimSpace(line)
		if setting, ok := strings.CutPrefix(text, "# "); ok && strings.Contains(setting, " = ") && !strings.Contains(setting, "auth \"") {
			text = setting
		}
		all.WriteString(text + "\n")
	}
	dir := folder(t)
	text := strings.NewReplacer("/etc/mcp-gateway", dir, "/var/log/mcp-gateway", dir, "/usr/local/bin/mcp-files", dir+"/program").Replace(all.String())
	commented, err := Parse([]byte(text), "example.hcl", noEnvironment)
	require.NoError(t, err, "what is commented out parses too")
	plain, err := Load("example.hcl", noEnvironment)
	require.Error(t, err, "its files are not here")
	require.Nil(t, plain)
	small, err := parse(t, minimal, noEnvironment)
	require.NoError(t, err)
	require.Equal(t, small.Grants, commented.Grants)
	require.Equal(t, small.Limits, commented.Limits)
	require.Equal(t, small.Log, commented.Log)
	require.Equal(t, small.Admin, commented.Admin)
}

func TestMistakeIsToldWithItsPlaceAndWhatToDo(t *testing.T) {
	tests := map[string]struct {
		source string
		want   []string // lines of the error, or their parts
	}{
		"no file at all":                 {"", []string{"gateway.hcl:1,1: a block vault { } is required"}},
		"no HCL":                         {"vault {", []string{"gateway.hcl:1,", "Unclosed"}},
		"an unknown setting":             {minimal + "listener {\n  addr = \":1\"\n}\n", []string{`gateway.hcl:8,3: listener has no setting "addr"; its settings are address, tls_client_ca_file`}},
		"an unknown block":               {minimal + "listner {\n}\n", []string{`gateway.hcl:7,1: the file has no block "listner"; its settings are upstream_allow; its blocks are vault, listener`}},
		"a block written as a setting":   {minimal + "listener = {}\n", []string{"gateway.hcl:7,1: listener is a block, not a setting"}},
		"a setting written as a block":   {minimal + "listener {\n  address {}\n}\n", []string{"gateway.hcl:8,3: address is a setting, not a block"}},
		"what is not a range of uids":    {minimal + "stdio {\n  allowed_commands = [\"/bin/sh\"]\n  uid_range = \"0-9\"\n}\n", []string{`gateway.hcl:9,15: stdio: uid_range: "0-9" is not a range of at most 65536 uids`}},
		"fewer uids than children":       {minimal + "stdio {\n  allowed_commands = [\"/bin/sh\"]\n  uid_range = \"70000-70009\"\n}\n", []string{`gateway.hcl:9,15: stdio: uid_range: it has 10 accounts for max_children = 64`}},
		"one account and one for each":   {minimal + "stdio {\n  allowed_commands = [\"/bin/sh\"]\n  uid_range = \"70000-70099\"\n  user = \"nobody\"\n}\n", []string{"gateway.hcl:9,15: stdio: uid_range: user says that all children run as one account"}},
		"a home that is not a path":      {minimal + "stdio {\n  allowed_commands = [\"/bin/sh\"]\n  home_dir = \"homes\"\n}\n", []string{`gateway.hcl:9,14: stdio: home_dir: "homes" is not the absolute path`}},
		"isolation that does not exist":  {minimal + "stdio {\n  allowed_commands = [\"/bin/sh\"]\n  isolation = \"none\"\n}\n", []string{"gateway.hcl:9,15: stdio: isolation: \"none\""}},
		"two blocks of one kind":         {minimal + "admin {}\nadmin {}\n", []string{"gateway.hcl:8,1: there is a second block admin"}},
		"a block with a name it has not": {minimal + "admin \"x\" {}\n", []string{"gateway.hcl:7,7: block admin takes no name"}},
		"a number for a string":          {minimal + "audit {\n  file = 1\n}\n", []string{"gateway.hcl:8,10: audit: file: write it as a string in quotes"}},
		"a string for a number":          {minimal + "grants {\n  max_entries = \"many\"\n}\n", []string{"gateway.hcl:8,17: grants: max_entries: write it as a whole number"}},
		"a number with a fraction":       {minimal + "grants {\n  max_entries = 1000.5\n}\n", []string{"1000.5 is out of range: a whole number from"}},
		"a variable":                     {minimal + "audit {\n  file = path\n}\n", []string{"gateway.hcl:8,10: Variables not allowed"}},
		"a function":                     {minimal + "audit {\n  file = env(\"A\")\n}\n", []string{"gateway.hcl:8,10"}},
		"a null":                         {minimal + "audit {\n  file = null\n}\n", []string{"gateway.hcl:8,10: audit: file: write it as a string"}},
		"a duration without a unit":      {minimal + "grants {\n  max_stale = \"30\"\n}\n", []string{`gateway.hcl:8,15: grants: max_stale: "30" is not a valid duration: write for example "30s"`}},
		"a duration as a number":         {minimal + "grants {\n  max_stale = 30\n}\n", []string{`a duration in quotes`}},
		"a duration out of range":        {minimal + "grants {\n  max_stale = \"1ms\"\n}\n", []string{"1ms is out of range: 3s to 1h0m0s"}},
		"a wait beyond a third":          {minimal + "grants {\n  max_stale = \"10s\"\n  wait = \"5s\"\n}\n", []string{"gateway.hcl:9,10: grants: wait: 5s is more than a third of max_stale (10s)"}},
		"a size without a unit":          {minimal + "limits {\n  max_body = \"4\"\n}\n", []string{`"4" is not a valid size: write for example "512KiB"`}},
		"a size in a wrong unit":         {minimal + "limits {\n  max_body = \"4MB\"\n}\n", []string{`"4MB" is not a valid size`}},
		"a size out of range":            {minimal + "limits {\n  max_body = \"4GiB\"\n}\n", []string{"4GiB is out of range: 1KiB to 1GiB"}},
		"less than one request may need": {minimal + "limits {\n  max_body             = \"16MiB\"\n  max_buffered_per_client = \"64MiB\"\n}\n", []string{"64MiB is less than one request may need, 88MiB: four times max_body and three times max_list"}},
		"an address without a port":      {minimal + "listener {\n  address = \"127.0.0.1\"\n}\n", []string{`"127.0.0.1" is not an address to listen on`}},
		"an address with a named host":   {minimal + "listener {\n  address = \"gateway:80\"\n}\n", []string{`"gateway" is not an IP address`}},
		"a port out of range":            {minimal + "listener {\n  address = \":99999\"\n}\n", []string{"is not an address to listen on"}},
		"one address for both listeners": {minimal + "listener {\n  address = \"127.0.0.1:8081\"\n}\n", []string{"it is the listener's address too"}},
		"a Vault that is no URL":         {strings.Replace(minimal, "vault {", "vault {\n  address = \"vault:8200\"", 1), []string{`gateway.hcl:2,13: vault: address: "vault:8200" is not a valid URL`}},
		"a Vault with a query":           {strings.Replace(minimal, "vault {", "vault {\n  address = \"https://v/?a=b\"", 1), []string{"holds more than scheme, host, port and path"}},
		"a password in the URL is not told": {
			strings.Replace(minimal, "vault {", "vault {\n  address = \"https://u:hunter2@v/\"", 1),
			[]string{"holds more than"},
		},
		"a mount that is not a path":  {strings.Replace(minimal, "vault {", "vault {\n  mount = \"a/../b\"", 1), []string{"is not the path of a mount"}},
		"no auth":                     {"vault {}\n", []string{"exactly one block auth"}},
		"two auths":                   {strings.Replace(minimal, "vault {", "vault {\n  auth \"token_file\" { path = \"/x\" }", 1), []string{"exactly one block auth"}},
		"an auth without a method":    {"vault {\n  auth {}\n}\n", []string{"gateway.hcl:2,3: block auth needs one name"}},
		"an auth that is unknown":     {"vault {\n  auth \"ldap\" {}\n}\n", []string{`gateway.hcl:2,8: auth method "ldap" is not known`}},
		"an AppRole without a role":   {"vault {\n  auth \"approle\" { secret_id_file = \"DIR/secret_id\" }\n}\n", []string{"approle needs one of role_id and role_id_file"}},
		"an AppRole with two roles":   {strings.Replace(minimal, "role_id  ", "role_id_file = \"DIR/role_id\"\nrole_id  ", 1), []string{"approle needs one of"}},
		"an AppRole without a secret": {"vault {\n  auth \"approle\" { role_id = \"r\" }\n}\n", []string{"auth: secret_id_file is required"}},
		"a file that is missing":      {strings.Replace(minimal, "DIR/secret_id", "/nowhere/secret_id", 1), []string{"gateway.hcl:4,22: auth: secret_id_file: /nowhere/secret_id does not exist"}},
		"a file that is a folder":     {strings.Replace(minimal, "DIR/secret_id", "DIR", 1), []string{"is a folder: give a file"}},
		"a Kubernetes role that is missing": {
			"vault {\n  auth \"kubernetes\" { jwt_file = \"DIR/role_id\" }\n}\n",
			[]string{"auth: role is required"},
		},
		"a token file without a path":           {"vault {\n  auth \"token_file\" {}\n}\n", []string{"auth: path is required"}},
		"a certificate without a key":           {minimal + "listener {\n  tls_cert_file = \"DIR/tls.crt\"\n}\n", []string{"tls_cert_file and tls_key_file go together"}},
		"a file that is not a certificate":      {minimal + "listener {\n  tls_cert_file = \"DIR/broken.pem\"\n  tls_key_file = \"DIR/tls.key\"\n}\n", []string{"gateway.hcl:8,19: listener: tls_cert_file: it and tls_key_file are not a pair in PEM"}},
		"a file without authorities":            {strings.Replace(minimal, "vault {", "vault {\n  ca_cert_file = \"DIR/broken.pem\"", 1), []string{"has no certificate in PEM"}},
		"client certificates without TLS":       {minimal + "listener {\n  tls_client_ca_file = \"DIR/ca.pem\"\n}\n", []string{"client certificates need TLS"}},
		"a server that there is not":            {minimal + "listener {\n  http1 = \"fasthttp\"\n}\n", []string{`"fasthttp" is not a server: leave http1 out for the gateway's own, or write "net/http"`}},
		"a PROXY protocol from nobody":          {minimal + "listener {\n  proxy_protocol = true\n}\n", []string{"believed from trusted_proxies alone"}},
		"a proxy that is not a range":           {minimal + "listener {\n  trusted_proxies = [\"lb.example.com\"]\n}\n", []string{`"lb.example.com" is not a valid address range`}},
		"a list that is a string":               {minimal + "listener {\n  trusted_proxies = \"10.0.0.0/8\"\n}\n", []string{"write it as a list of strings"}},
		"a list of numbers":                     {minimal + "listener {\n  trusted_proxies = [1]\n}\n", []string{"write it as a list of strings"}},
		"a host that is a URL":                  {minimal + "listener {\n  allowed_hosts = [\"https://a\"]\n}\n", []string{`"https://a" is not a valid host name`}},
		"an origin with a path":                 {minimal + "listener {\n  allowed_origins = [\"https://a/b\"]\n}\n", []string{"is not a valid web origin"}},
		"an origin that is a wildcard":          {minimal + "listener {\n  allowed_origins = [\"*\"]\n}\n", []string{"is not a valid web origin"}},
		"an origin that is a wide wildcard":     {minimal + "listener {\n  allowed_origins = [\"https://*\"]\n}\n", []string{`a "*" stands for the first labels`}},
		"an origin of a whole domain":           {minimal + "listener {\n  allowed_origins = [\"https://*.com\"]\n}\n", []string{"is too wide"}},
		"an origin with half a label":           {minimal + "listener {\n  allowed_origins = [\"https://app-*.example.com\"]\n}\n", []string{`a "*" stands for the first labels`}},
		"an origin with a wildcard port":        {minimal + "listener {\n  allowed_origins = [\"http://localhost:*\"]\n}\n", []string{"is not a valid web origin"}},
		"an origin with an empty port":          {minimal + "listener {\n  allowed_origins = [\"https://app.example.com:\"]\n}\n", []string{"is not a valid web origin: its port"}},
		"an origin beyond ASCII":                {minimal + "listener {\n  allowed_origins = [\"https://bücher.example\"]\n}\n", []string{"as browsers send it"}},
		"an origin with a user":                 {minimal + "listener {\n  allowed_origins = [\"https://a@app.example.com\"]\n}\n", []string{"is not a valid web origin"}},
		"a relative audit file":                 {minimal + "audit {\n  file = \"audit.log\"\n}\n", []string{`"audit.log" is not an absolute path`}},
		"an audit file in no folder":            {minimal + "audit {\n  file = \"/nowhere/audit.log\"\n}\n", []string{"the folder /nowhere is not there"}},
		"stdio without commands":                {minimal + "stdio {}\n", []string{"stdio needs allowed_commands"}},
		"a relative command":                    {minimal + "stdio {\n  allowed_commands = [\"npx\"]\n}\n", []string{`gateway.hcl:8,22: stdio: allowed_commands: "npx" is not an absolute path`}},
		"a command with dots":                   {minimal + "stdio {\n  allowed_commands = [\"DIR/../x\"]\n}\n", []string{"is not the shortest form of its path"}},
		"a command that is missing":             {minimal + "stdio {\n  allowed_commands = [\"/nowhere/x\"]\n}\n", []string{"/nowhere/x does not exist"}},
		"a command that is not a program":       {minimal + "stdio {\n  allowed_commands = [\"DIR/role_id\"]\n}\n", []string{"is not a program"}},
		"an upstream without a name":            {minimal + "upstream {}\n", []string{"block upstream needs one name"}},
		"an upstream twice":                     {minimal + "upstream \"a\" {}\nupstream \"a\" {}\n", []string{`gateway.hcl:8,10: upstream "a" has a second block`}},
		"an upstream with half a pair":          {minimal + "upstream \"a\" {\n  client_key_file = \"DIR/tls.key\"\n}\n", []string{"go together"}},
		"an allowed upstream that is not valid": {minimal + "upstream_allow = [\"https://a\", \"a*\", \"\", \"*.\"]\n", []string{`"https://a" is neither`, `"a*" is neither`, `"" is neither`, `"*." is neither`}},
		"an unknown log level":                  {minimal + "log {\n  level = \"loud\"\n}\n", []string{`"loud" is not one of trace, debug`}},
		"several mistakes at once":              {minimal + "log {\n  level = \"loud\"\n}\nadmin {\n  address = \"x\"\n  port = 1\n}\n", []string{"gateway.hcl:8,", "gateway.hcl:11,", "gateway.hcl:12,"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := parse(t, test.source, noEnvironment)
			require.Error(t, err)
			require.Nil(t, c)
			for _, want := range test.want {
				require.Contains(t, err.Error(), want)
			}
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestEnvironmentGoesOverTheFile(t *testing.T) {
	dir := folder(t)
	environment := map[string]string{
		EnvVaultAddress: "http://127.0.0.1:9200", EnvVaultNamespace: "team/", EnvVaultCACert: dir + "/ca.pem", EnvListen: "127.0.0.1:0",
	}
	c, err := parse(t, minimal+"listener {\n  address = \"127.0.0.1:9\"\n}\n", func(name string) string { return environment[name] })
	require.NoError(t, err)
	require.Equal(t, "http://127.0.0.1:9200", c.Vault.Address.String())
	require.Equal(t, "team/", c.Vault.Namespace)
	require.Equal(t, dir+"/ca.pem", c.Vault.CACertFile)
	require.Equal(t, "127.0.0.1:0", c.Listener.Address)
}

func TestMistakeInTheEnvironmentIsToldByItsName(t *testing.T) {
	for name, value := range map[string]string{
		EnvVaultAddress: "127.0.0.1:8200", EnvVaultCACert: "/nowhere/ca.pem", EnvListen: "8080",
	} {
		_, err := parse(t, minimal, func(asked string) string {
			if asked == name {
				return value
			}
			return ""
		})
		require.ErrorContains(t, err, name+": ")
	}
}

// The gateway later compares these origins with those of browsers.
func TestOriginsAreReadAsBrowsersSendThem(t *testing.T) {
	c, err := parse(t, minimal+`listener {
  allowed_origins = ["HTTPS://App.example.com:443", "http://localhost:80", "http://localhost:6274", "https://*.Example.com", "https://*.example.com:8443", "http://[::1]:5173"]
}
`, noEnvironment)
	require.NoError(t, err)
	require.Equal(t, []string{
		"https://app.example.com", "http://localhost", "http://localhost:6274", "https://*.example.com", "https://*.example.com:8443", "http://[::1]:5173",
	}, c.Listener.AllowedOrigins)
}

func TestWaitFollowsMaxStaleUnlessItIsGiven(t *testing.T) {
	c, err := parse(t, minimal+"grants {\n  max_stale = \"9s\"\n}\n", noEnvironment)
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, c.Grants.Wait)
}

func TestRolesAreReadFromFilesThatNeedNotBeThereYet(t *testing.T) {
	c, err := parse(t, "vault {\n  auth \"token_file\" { path = \"/run/agent/not-yet\" }\n}\n", noEnvironment)
	require.NoError(t, err)
	require.Equal(t, "/run/agent/not-yet", c.Vault.Auth.TokenFile)
}

// FuzzParse: whatever the file holds, the answer is a configuration or an error
// that names a place, and never a panic.
func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	example, err := os.ReadFile("example.hcl")
	require.NoError(f, err)
	f.Add(example)
	f.Add([]byte("stdio {\n allowed_commands = [\"a\", 1, null, x]\n}\nupstream \"a\" {}\nupstream_allow = {}"))
	f.Fuzz(func(t *testing.T, source []byte) {
		c, err := Parse(source, "gateway.hcl", noEnvironment)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v and %v", c, err)
		}
		if err != nil && !strings.Contains(err.Error(), "gateway.hcl:") && !strings.Contains(err.Error(), "admin address") {
			t.Fatalf("an error without a place: %v", err)
		}
	})
}
