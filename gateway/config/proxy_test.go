package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAServersOwnProxyCountsAndElseTheOneForAll(t *testing.T) {
	c, err := parse(t, minimal+`
upstream_proxy {
  url           = "https://proxy.example.com:3129"
  username      = "mcp"
  password_file = "DIR/intranet_secret"
  no_proxy      = [".example.com", "10.0.0.0/8", "host:8080"]
  ca_cert_file  = "DIR/ca.pem"
}
upstream "own" {
  proxy {
    url = "http://other.example.com:3128"
  }
}
upstream "plain" {}
`, noEnvironment)
	require.NoError(t, err)
	for _, name := range []string{"plain", "without a block"} {
		require.Same(t, c.UpstreamProxy, c.Upstream(name).Proxy, name)
	}
	require.Equal(t, "https://proxy.example.com:3129", c.UpstreamProxy.URL.String())
	require.Equal(t, "mcp", c.UpstreamProxy.Username)
	require.Equal(t, []string{".example.com", "10.0.0.0/8", "host:8080"}, c.UpstreamProxy.NoProxy)
	require.Equal(t, "http://other.example.com:3128", c.Upstream("own").Proxy.URL.String())

	c, err = parse(t, minimal, func(name string) string {
		return map[string]string{"HTTPS_PROXY": "http://proxy.example.com:3128", "https_proxy": "http://proxy.example.com:3128"}[name]
	})
	require.NoError(t, err)
	require.Nil(t, c.Upstream("x").Proxy, "the environment has no say")
}

func TestAPasswordForAProxyIsReadWithoutItsLineEndAndNeverQuoted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	for content, want := range map[string]string{
		"secret": "secret", "secret\n": "secret", "secret\r\n": "secret", "with spaces \n": "with spaces ", "pässword": "pässword",
		"": "", "\n": "", "two\nlines": "", "a\x00b": "",
	} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		got, err := ReadProxyPassword(path)
		require.Equal(t, want, got)
		if want == "" {
			require.ErrorContains(t, err, "is not a password")
			require.NotContains(t, err.Error(), "lines")
		}
	}
}

func TestAProxysPasswordInClearIsAWarning(t *testing.T) {
	for url, warned := range map[string]bool{
		"http://proxy.example.com:3128": true, "https://proxy.example.com:3128": false, "http://127.0.0.1:3128": false,
	} {
		c, err := parse(t, minimal+"upstream \"a\" {\n proxy {\n url = \""+url+"\"\n username = \"u\"\n password_file = \"DIR/intranet_secret\"\n }\n}\n", noEnvironment)
		require.NoError(t, err)
		require.Equal(t, warned, strings.Contains(strings.Join(c.Warnings, "\n"), `upstream "a": proxy: the password goes to the proxy without TLS`), url)
	}
}

func TestMistakesInAProxyAreToldWithoutItsSecrets(t *testing.T) {
	for name, test := range map[string]struct{ block, want string }{
		"no url":                     {``, "url is required"},
		"an empty url":               {`url = ""`, "not a valid URL of a proxy"},
		"a url without a scheme":     {`url = "user:hunter2@proxy:3128"`, "not a valid URL of a proxy"},
		"a socks proxy":              {`url = "socks5://proxy:1080"`, "not a valid URL of a proxy"},
		"a password in the url":      {`url = "http://user:hunter2@proxy:3128"`, "write username and password_file instead"},
		"a path":                     {`url = "http://proxy:3128/x"`, "leave the rest out"},
		"a username alone":           {"url = \"http://proxy:3128\"\nusername = \"u\"", "go together"},
		"a password alone":           {"url = \"http://proxy:3128\"\npassword_file = \"DIR/intranet_secret\"", "go together"},
		"a colon in the username":    {"url = \"http://proxy:3128\"\nusername = \"a:b\"\npassword_file = \"DIR/intranet_secret\"", "colon"},
		"a password that is no file": {"url = \"http://proxy:3128\"\nusername = \"u\"\npassword_file = \"/nowhere\"", "does not exist"},
		"authorities without tls":    {"url = \"http://proxy:3128\"\nca_cert_file = \"DIR/ca.pem\"", "without TLS"},
		"no_proxy with a url":        {"url = \"http://proxy:3128\"\nno_proxy = [\"https://a\"]", "is not a host, a domain"},
		"no_proxy in one text":       {"url = \"http://proxy:3128\"\nno_proxy = [\"a,b\"]", "is not a host, a domain"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, around := range []string{"upstream_proxy {\n%s\n}\n", "upstream \"a\" {\nproxy {\n%s\n}\n}\n"} {
				_, err := parse(t, minimal+strings.Replace(around, "%s", test.block, 1), noEnvironment)
				require.ErrorContains(t, err, test.want)
				require.NotContains(t, err.Error(), "hunter2")
			}
		})
	}
}
