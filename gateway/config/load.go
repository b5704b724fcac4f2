package config

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"vault-plugin-secrets-mcp/backend/kms"
)

// Load reads the file, puts the environment over it, and checks the whole. The
// error holds everything that is wrong, one line each.
func Load(path string, getenv func(string) string) (*Config, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return Parse(source, path, getenv)
}

// Parse is Load for the text of a file. Errors name the path.
func Parse(source []byte, path string, getenv func(string) string) (*Config, error) {
	file, diags := hclsyntax.ParseConfig(source, path, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, &Error{problems: diags}
	}
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok { // cannot happen: hclsyntax makes bodies of its own type
		return nil, fmt.Errorf("configuration: %s: not HCL", path)
	}
	d := &decoder{}
	c := d.config(body)
	d.override(c, getenv)
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b *hcl.Diagnostic) int { return offset(a) - offset(b) })
		return nil, &Error{problems: d.problems}
	}
	c.warn(getenv)
	return c, nil
}

// offset sorts problems outside of the file after those in it.
func offset(p *hcl.Diagnostic) int {
	if p.Subject == nil {
		return math.MaxInt
	}
	return p.Subject.Start.Byte
}

// Error is everything that is wrong with a file.
type Error struct{ problems hcl.Diagnostics }

// Error has one line for each problem, "file:line,column: mistake".
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		if p.Subject != nil {
			fmt.Fprintf(&b, "%s:%d,%d: ", p.Subject.Filename, p.Subject.Start.Line, p.Subject.Start.Column)
		}
		b.WriteString(p.Summary)
		if p.Detail != "" {
			b.WriteString(": ")
			b.WriteString(p.Detail)
		}
	}
	return b.String()
}

func (d *decoder) config(body *hclsyntax.Body) *Config {
	s := d.section(body, "the file")
	c := &Config{Upstreams: make(map[string]Upstream)}
	c.UpstreamAllow = upstreamAllow(s, "upstream_allow")

	if block := s.block("vault"); block != nil {
		c.Vault = d.vault(block)
	} else {
		d.problem(body.MissingItemRange(), "a block vault { } is required: it says where Vault is and how to log in")
	}
	c.Listener = d.listener(s.blockOrEmpty("listener"))
	c.Admin = d.admin(s.blockOrEmpty("admin"))
	c.Grants = d.grants(s.blockOrEmpty("grants"))
	c.Audit = d.audit(s.blockOrEmpty("audit"))
	c.Limits = d.limits(s.blockOrEmpty("limits"))
	c.Aggregate = d.aggregate(s.blockOrEmpty("aggregate"))
	c.Log = d.log(s.blockOrEmpty("log"))
	if block := s.block("kms"); block != nil {
		c.KMS = d.kms(block)
	}
	if block := s.block("stdio"); block != nil {
		c.Stdio = d.stdio(block)
	}
	if block := s.block("upstream_credentials"); block != nil {
		c.UpstreamCredentials = d.upstreamCredentials(block)
	}
	if block := s.block("sign_in"); block != nil {
		c.SignIn = d.signIn(block, c.Listener.PublicURL)
	}
	c.UpstreamProxy = upstreamProxy(s.block("upstream_proxy"))
	for _, block := range s.labelled("upstream") {
		name := block.Labels[0]
		if _, ok := c.Upstreams[name]; ok {
			d.problem(block.LabelRanges[0], "upstream %q has a second block: put both into one", name)
		}
		c.Upstreams[name] = d.upstream(d.section(block.Body, "upstream"))
	}
	s.end()
	return c
}

func (d *decoder) auth(s *section, block *hclsyntax.Block) Auth {
	a := Auth{Method: block.Labels[0]}
	if a.Method != AuthTokenFile {
		a.Mount = strings.Trim(s.str("mount", a.Method), "/")
	}
	switch a.Method {
	case AuthAppRole:
		a.RoleID = s.str("role_id", "")
		a.RoleIDFile = s.file("role_id_file")
		a.SecretIDFile = s.file("secret_id_file")
		a.WrappedSecretID = s.boolean("secret_id_wrapped")
		if (a.RoleID == "") == (a.RoleIDFile == "") {
			d.problem(block.DefRange(), "approle needs one of role_id and role_id_file")
		}
		s.required("secret_id_file", a.SecretIDFile)
	case AuthKubernetes:
		a.Role = s.str("role", "")
		a.JWTFile = s.fileDefault("jwt_file", "/var/run/secrets/kubernetes.io/serviceaccount/token")
		s.required("role", a.Role)
	case AuthJWT:
		a.Role = s.str("role", "")
		a.JWTFile = s.file("jwt_file")
		s.required("role", a.Role)
		s.required("jwt_file", a.JWTFile)
	case AuthTokenFile:
		// A Vault Agent may write it only later, so it need not be there yet.
		a.TokenFile = s.str("path", "")
		s.required("path", a.TokenFile)
	default:
		d.problem(block.LabelRanges[0], "auth method %q is not known: use approle, kubernetes, jwt or token_file", a.Method)
		return a
	}
	s.end()
	return a
}

func (d *decoder) listener(s *section) Listener {
	l := Listener{
		Address:         s.hostPort("address", "127.0.0.1:8080"),
		TLSClientCAFile: s.authorities("tls_client_ca_file"),
		PublicURL:       s.url("public_url", ""),
		AllowedHosts:    s.list("allowed_hosts"),
		AllowedOrigins:  s.list("allowed_origins"),
		TrustedProxies:  s.prefixes("trusted_proxies"),
		ProxyProtocol:   s.boolean("proxy_protocol"),
		HTTP2:           s.booleanOr("http2", true),
		HTTP1:           s.str("http1", ""),
		DrainDelay:      s.duration("drain_delay", 500*time.Millisecond, 0, 5*time.Minute),
		DrainTimeout:    s.duration("drain_timeout", 30*time.Second, 0, time.Hour),
	}
	l.TLSCertFile, l.TLSKeyFile = s.keyPair("tls_cert_file", "tls_key_file")
	if l.TLSClientCAFile != "" && l.TLSCertFile == "" {
		s.bad("tls_client_ca_file", "client certificates need TLS: give tls_cert_file and tls_key_file too")
	}
	if l.ProxyProtocol && len(l.TrustedProxies) == 0 {
		s.bad("proxy_protocol", "the PROXY protocol is believed from trusted_proxies alone: list the proxy's addresses there")
	}
	if l.HTTP1 != "" && l.HTTP1 != NetHTTP {
		s.bad("http1", "%q is not a server: leave http1 out for the gateway's own, or write %q", l.HTTP1, NetHTTP)
	}
	for _, host := range l.AllowedHosts {
		if host == "" || strings.ContainsAny(host, "/*@ ") {
			s.bad("allowed_hosts", "%q is not a valid host name: write it as \"gateway.example.com\" or \"gateway.example.com:8443\"", host)
		}
	}
	for i, origin := range l.AllowedOrigins {
		var err error
		if l.AllowedOrigins[i], err = parseOrigin(origin); err != nil {
			s.bad("allowed_origins", "%v", err)
		}
	}
	s.end()
	return l
}

// parseOrigin returns a web origin in the form in which browsers send it. Its
// first labels may be a "*".
func parseOrigin(text string) (string, error) {
	origin := strings.ToLower(text)
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
		return "", fmt.Errorf("%q is not a valid web origin: write it as \"https://app.example.com\", without a path; \"https://*.example.com\" stands for all names below example.com", text)
	}
	host, wildcard := strings.CutPrefix(u.Hostname(), "*.")
	port, err := strconv.ParseUint(cmp.Or(u.Port(), "1"), 10, 16)
	switch {
	case strings.HasSuffix(u.Host, ":") || err != nil || port == 0:
		return "", fmt.Errorf("%q is not a valid web origin: its port is not a number from 1 to 65535", text)
	case strings.Contains(host, "*"):
		return "", fmt.Errorf("%q is not a valid web origin: a \"*\" stands for the first labels of a name alone, as in \"https://*.example.com\"", text)
	case wildcard && !strings.Contains(strings.TrimSuffix(host, "."), "."):
		return "", fmt.Errorf("%q is too wide: name at least two labels behind the \"*\", as in \"https://*.example.com\"", text)
	case strings.ContainsFunc(host, func(c rune) bool { return c > unicode.MaxASCII }):
		return "", fmt.Errorf("%q: write the host as browsers send it, in letters of ASCII (\"xn--…\")", text)
	}
	if u.Port() == map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		origin = strings.TrimSuffix(origin, ":"+u.Port()) // browsers leave it out
	}
	return origin, nil
}

func (*decoder) admin(s *section) Admin {
	a := Admin{Address: s.hostPort("address", "127.0.0.1:8081")}
	s.end()
	return a
}

func (*decoder) grants(s *section) Grants {
	g := Grants{
		MaxStale:        s.duration("max_stale", 30*time.Second, 3*time.Second, time.Hour),
		NegativeTTL:     s.duration("negative_ttl", 30*time.Second, 0, time.Hour),
		MaxEntries:      s.integer("max_entries", 100_000, 100, 10_000_000),
		Wait:            s.duration("wait", 5*time.Second, 100*time.Millisecond, time.Minute),
		ColdRate:        s.number("cold_rate", 500, 1, 1e6),
		ColdBurst:       s.integer("cold_burst", 1000, 1, 1_000_000),
		ColdSourceRate:  s.number("cold_source_rate", 20, 0.1, 1e6),
		ColdSourceBurst: s.integer("cold_source_burst", 100, 1, 1_000_000),
	}
	if !s.has("wait") {
		g.Wait = min(g.Wait, g.MaxStale/3)
	} else if g.Wait > g.MaxStale/3 {
		s.bad("wait", "%s is more than a third of max_stale (%s): grants would grow old between two answers", g.Wait, g.MaxStale)
	}
	s.end()
	return g
}

func (*decoder) kms(s *section) *KMS {
	k := &KMS{
		Audience: s.str("audience", ""),
		Required: s.boolean("required"),
		Region:   s.str("region", ""),
		Refresh:  s.duration("refresh", kms.Period, time.Second, kms.MaxStale),
		MaxStale: s.duration("max_stale", kms.MaxStale, time.Second, 24*time.Hour),
	}
	if u := s.url("endpoint", ""); u != nil {
		k.Endpoint = u.String()
	}
	if k.MaxStale < k.Refresh {
		s.bad("max_stale", "%s is less than refresh (%s): data keys would grow old between two answers", k.MaxStale, k.Refresh)
	}
	s.end()
	return k
}

func (d *decoder) stdio(s *section) *Stdio {
	c := &Stdio{
		AllowedCommands:      s.list("allowed_commands"),
		User:                 s.str("user", ""),
		UIDs:                 s.idRange("uid_range"),
		Isolation:            s.choice("isolation", IsolationRequired, IsolationRequired, IsolationOff),
		HomeDir:              s.str("home_dir", ""),
		IdleTimeout:          s.duration("idle_timeout", 10*time.Minute, time.Second, 24*time.Hour),
		StopTimeout:          s.duration("stop_timeout", 5*time.Second, 100*time.Millisecond, time.Minute),
		MaxChildren:          s.integer("max_children", 64, 1, 10_000),
		MaxChildrenPerClient: s.integer("max_children_per_client", 8, 1, 10_000),
	}
	if len(c.AllowedCommands) == 0 {
		d.problem(s.body.MissingItemRange(), "stdio needs allowed_commands: the absolute paths of the programs that the gateway may start")
	}
	if c.UIDs.Count > 0 && c.User != "" {
		s.bad("uid_range", "user says that all children run as one account: leave one of the two out")
	}
	if n := int64(c.UIDs.Count); n > 0 && n < int64(c.MaxChildren) {
		s.bad("uid_range", "it has %d accounts for max_children = %d: each child needs one", n, c.MaxChildren)
	}
	if c.HomeDir != "" && (!filepath.IsAbs(c.HomeDir) || filepath.Clean(c.HomeDir) != c.HomeDir || filepath.Dir(c.HomeDir) == "/") {
		s.bad("home_dir", "%q is not the absolute path of a folder that is the children's alone, such as /var/lib/mcp-gateway/children", c.HomeDir)
	}
	for _, command := range c.AllowedCommands {
		switch {
		case !filepath.IsAbs(command):
			s.bad("allowed_commands", "%q is not an absolute path: which program it is must not depend on PATH", command)
		case filepath.Clean(command) != command:
			s.bad("allowed_commands", "%q is not the shortest form of its path: write %q", command, filepath.Clean(command))
		default:
			s.executable("allowed_commands", command)
		}
	}
	s.end()
	return c
}

func (*decoder) upstream(s *section) Upstream {
	u := Upstream{
		Timeout:        s.duration("timeout", defaultUpstream.Timeout, 10*time.Millisecond, time.Hour),
		ConnectTimeout: s.duration("connect_timeout", defaultUpstream.ConnectTimeout, 10*time.Millisecond, time.Minute),
		CACertFile:     s.authorities("ca_cert_file"),
		MaxConcurrent:  s.integer("max_concurrent", 0, 0, 1_000_000),
	}
	u.CredentialPaths = s.list("credential_paths")
	s.checkCredentialPaths(u.CredentialPaths)
	u.Proxy = upstreamProxy(s.block("proxy"))
	u.ClientCertFile, u.ClientKeyFile = s.keyPair("client_cert_file", "client_key_file")
	s.end()
	return u
}

func (*decoder) limits(s *section) Limits {
	l := Limits{
		MaxBody:              s.size("max_body", 4<<20, 1<<10, 1<<30),
		MaxHeader:            int(s.size("max_header", 32<<10, 4<<10, 1<<20)),
		MaxList:              s.size("max_list", 8<<20, 1<<10, 1<<30),
		MaxStreamAge:         s.duration("max_stream_age", time.Hour, time.Second, 30*24*time.Hour),
		KeepAlive:            s.duration("keep_alive", 15*time.Second, 100*time.Millisecond, time.Hour),
		PerClientConcurrency: s.integer("per_client_concurrency", 256, 1, 1_000_000),

		MaxBuffered:             s.size("max_buffered", 256<<20, 1<<20, 1<<40),
		MaxBufferedPerClient:    s.size("max_buffered_per_client", 64<<20, 1<<20, 1<<40),
		MaxConnectionsPerSource: s.integer("max_connections_per_source", 1024, 0, 1_000_000),
	}
	// A call at /mcp: its body, with other names and in the form of the server's era, and an
	// answer with its copies.
	largest := 4*l.MaxBody + 3*l.MaxList
	for name, bound := range map[string]*int64{"max_buffered": &l.MaxBuffered, "max_buffered_per_client": &l.MaxBufferedPerClient} {
		switch {
		case *bound >= largest:
		case s.has(name):
			s.bad(name, "%s is less than one request may need, %s: four times max_body and three times max_list", FormatSize(*bound), FormatSize(largest))
		default:
			*bound = largest
		}
	}
	s.end()
	return l
}

func (*decoder) aggregate(s *section) Aggregate {
	a := Aggregate{
		ListWait:      s.duration("list_wait", 2*time.Second, 10*time.Millisecond, 5*time.Minute),
		FirstListWait: s.duration("first_list_wait", 50*time.Second, 10*time.Millisecond, 5*time.Minute),
	}
	s.end()
	return a
}

func (*decoder) log(s *section) Log {
	l := Log{
		Level:  s.choice("level", "info", "trace", "debug", "info", "warn", "error"),
		Format: s.choice("format", "json", "json", "text"),
	}
	s.end()
	return l
}
