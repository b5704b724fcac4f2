package check

import (
	"fmt"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/backend/credential"
)

type specs = map[string]credential.Spec

// leased is a remote server that uses the credential db.
func leased(change func(*Server)) *Server {
	return remote(func(s *Server) {
		s.Credentials = specs{"db": {Path: "database/creds/ro"}}
		s.Headers = map[string]string{"Authorization": "Bearer {{db.password}}"}
		change(s)
	})
}

// leasedChild is a stdio server that uses the credential db.
func leasedChild(change func(*Server)) *Server {
	return child(func(s *Server) {
		s.Credentials = specs{"db": {Path: "database/creds/ro"}}
		s.Env = map[string]string{"PGPASSWORD": "{{db.password}}"}
		change(s)
	})
}

func many[V any](n int, value V) map[string]V {
	all := map[string]V{}
	for i := range n {
		all[fmt.Sprintf("c%d", i)] = value
	}
	return all
}

func TestEveryBadFormOfCredentialsIsRefusedWithTheFieldAndWhatToDo(t *testing.T) {
	for name, tc := range map[string]struct {
		server *Server
		field  string
		want   string
	}{
		"a credential that there is not": {
			leased(func(s *Server) { s.Headers["X-A"] = "s3cret {{dbx.password}}" }), "headers",
			`field headers: the value of "X-A" has {{dbx.password}}, and there is no such credential: write credentials=dbx=PATH`,
		},
		"one that there is not in a filter":  {leased(func(s *Server) { s.Headers["X-A"] = "{{db.username|basic:other.password}}" }), "headers", "{{other.password}}, and there is no such credential"},
		"one that there is not in env":       {leasedChild(func(s *Server) { s.Env["A"] = "{{x.y}}" }), "env", `field env: the value of "A" has {{x.y}}`},
		"one that there is not in a file":    {leasedChild(func(s *Server) { s.Files = map[string]string{"f": "{{x.y}}"} }), "files", `field files: the value of "f" has {{x.y}}`},
		"a placeholder of paths in a header": {leased(func(s *Server) { s.Headers["X-A"] = "{{client.alias}}" }), "headers", "can stand in the path and the data of a credential alone"},
		"a placeholder of people":            {leased(func(s *Server) { s.Headers["X-A"] = "{{person.alias}}" }), "headers", "can stand in the path"},
		"a placeholder that cannot be read":  {leased(func(s *Server) { s.Headers["X-A"] = "s3cret {{db}}" }), "headers", `field headers: the value of "X-A" has {{db}} without a field: write {{db.FIELD}}`},
		"a placeholder without its end":      {leasedChild(func(s *Server) { s.Env["A"] = "s3cret {{db.password" }), "env", "has {{ without }}"},
		"an unknown filter":                  {leasedChild(func(s *Server) { s.Env["A"] = "{{db.password|upper}}" }), "env", "use urlencode or basic:NAME.FIELD"},
		"a placeholder in url":               {leased(func(s *Server) { s.URL = "https://h.example/{{db.username}}" }), "url", "field url: it takes no placeholder"},
		"a placeholder in command":           {leasedChild(func(s *Server) { s.Command = "/bin/{{db.username}}" }), "command", "field command: it takes no placeholder"},
		"a placeholder in args":              {leasedChild(func(s *Server) { s.Args = []string{"--password={{ db.password }}"} }), "args", "field args: it takes no placeholder"},
		"a placeholder in description":       {leased(func(s *Server) { s.Description = "as {{db.username}}" }), "description", "field description: it takes no placeholder"},
		"a credential that nothing uses":     {leased(func(s *Server) { s.Credentials["gh"] = credential.Spec{Path: "kv/data/gh"} }), "credentials", `field credentials: no value uses "gh": write {{gh.FIELD}} into headers, or leave it out`},
		"a credential without any value":     {leasedChild(func(s *Server) { s.Env = nil }), "credentials", "write {{db.FIELD}} into env or files"},
		"a bad path":                         {leased(func(s *Server) { s.Credentials["db"] = credential.Spec{Path: "/database/creds"} }), "credentials", `field credentials: "db": its path begins with /`},
		"Vault's own path":                   {leased(func(s *Server) { s.Credentials["db"] = credential.Spec{Path: "sys/raw"} }), "credentials", "Vault's own"},
		"a bad name":                         {leased(func(s *Server) { s.Credentials["Db"] = credential.Spec{Path: "kv/data/a"} }), "credentials", `"Db" is not a valid name of a credential`},
		"the name vault":                     {leased(func(s *Server) { s.Credentials["vault"] = credential.Spec{Path: "kv/data/a"} }), "credentials", `"vault" is reserved for {{vault.token}}`},
		"the name file":                      {leased(func(s *Server) { s.Credentials["file"] = credential.Spec{Path: "kv/data/a"} }), "credentials", `"file" is reserved for {{file.NAME}}`},
		"too many credentials":               {leased(func(s *Server) { s.Credentials = many(17, credential.Spec{Path: "kv/data/a"}) }), "credentials", "there are 17: at most 16 are allowed"},
		"credentials without end": {leased(func(s *Server) {
			s.Credentials["db"] = credential.Spec{Path: "kv/a", Method: "write", Data: many(10, strings.Repeat("x", 8000))}
		}), "credentials", "bytes long: at most"},
		"a token without policies":      {leased(func(s *Server) { s.Headers["X-Vault-Token"] = "{{vault.token}}" }), "headers", "{{vault.token}}, and its token needs policies: write vault_policies=NAME"},
		"policies without a token":      {leased(func(s *Server) { s.VaultPolicies = []string{"mcp-vault"} }), "vault_policies", "field vault_policies: no value uses the token: write {{vault.token}} into headers"},
		"another field of vault":        {leased(func(s *Server) { s.Headers["X-A"] = "{{vault.accessor}}" }), "headers", "write {{vault.token}}"},
		"a Vault policy in capitals":    {leased(withPolicies("MCP")), "vault_policies", "upper-case letter"},
		"Vault's root policy":           {leased(withPolicies("root")), "vault_policies", "allows everything in Vault"},
		"a Vault policy without a name": {leased(withPolicies("")), "vault_policies", "0 characters long"},
		"a Vault policy with a space":   {leased(withPolicies(" a")), "vault_policies", "white space at an end"},
		"a Vault policy with a NUL":     {leased(withPolicies("a\x00")), "vault_policies", "control character"},
		"too many Vault policies":       {leased(withPolicies(strings.Split(strings.Repeat("a ", 32)+"a", " ")...)), "vault_policies", "it has 33 entries"},
		"files of a remote server":      {leased(func(s *Server) { s.Files = map[string]string{"f": "x"} }), "files", "field files: a server of transport http is not started by the gateway"},
		"a file that there is not":      {leasedChild(func(s *Server) { s.Env["KEY"] = "{{file.KEY}}" }), "env", "{{file.KEY}}, and there is no such file: write files=KEY=…"},
		"a file's path in a header":     {leased(func(s *Server) { s.Headers["X-A"] = "{{file.KEY}}" }), "headers", "can stand in env alone"},
		"a file's path in a file":       {leasedChild(func(s *Server) { s.Files = map[string]string{"a": "{{file.a}}"} }), "files", "can stand in env alone"},
		"a file with a slash":           {leasedChild(func(s *Server) { s.Files = map[string]string{"../a": "x"} }), "files", `"../a" is not a valid name of a file`},
		"a file that is hidden":         {leasedChild(func(s *Server) { s.Files = map[string]string{".pgpass": "x"} }), "files", "not a valid name of a file"},
		"too many files":                {leasedChild(func(s *Server) { s.Files = many(33, "x") }), "files", "there are 33"},
		"a file without end":            {leasedChild(func(s *Server) { s.Files = many(1, strings.Repeat("x", maxFileSize+1)) }), "files", "at most"},
		"files without end":             {leasedChild(func(s *Server) { s.Files = many(3, strings.Repeat("x", maxFileSize)) }), "files", "contents are"},
		"a shared child with credentials": {
			leasedChild(func(s *Server) { s.Shared = true }), "shared",
			"field shared: one process for all clients cannot have credentials, which are each client's own: write shared=false",
		},
		"a shared child with files": {child(func(s *Server) { s.Shared, s.Files = true, map[string]string{"a": "x"} }), "shared", "cannot have files"},
		"a shared child with a token": {child(func(s *Server) {
			s.Shared, s.VaultPolicies, s.Env = true, []string{"a"}, map[string]string{"VAULT_TOKEN": "{{vault.token}}"}
		}), "shared", "cannot have vault_policies"},
		"http to another machine":            {leased(func(s *Server) { s.URL = "http://h.example/" }), "url", "field url: a server with credentials or vault_policies needs https"},
		"http to a private address":          {leased(func(s *Server) { s.URL = "http://10.0.0.1/" }), "url", "needs https"},
		"http to a name like localhost":      {leased(func(s *Server) { s.URL = "http://localhost.example/" }), "url", "needs https"},
		"a token over http":                  {remote(func(s *Server) { s.URL = "http://h.example/"; withPolicies("a")(s) }), "url", "needs https"},
		"a template for one that is in args": {child(func(s *Server) { s.Args = []string{"{{db.password}}"} }), "args", "takes no placeholder"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := tc.server.Check()
			if len(problems) != 1 || problems[0].Field != tc.field || !strings.Contains(problems[0].Error(), tc.want) ||
				strings.Contains(problems[0].Error(), "s3cret") || len(problems[0].Error()) > 500 {
				t.Errorf("refused: %v", problems.Err())
			}
		})
	}
}

// withPolicies gives the server a token with those policies.
func withPolicies(names ...string) func(*Server) {
	return func(s *Server) {
		s.VaultPolicies = names
		if s.Headers == nil {
			s.Headers = map[string]string{}
		}
		s.Headers["X-Vault-Token"] = "{{vault.token}}"
	}
}

func TestGoodFormsOfCredentialsAreTaken(t *testing.T) {
	for name, server := range map[string]*Server{
		"a header":                 leased(func(*Server) {}),
		"env":                      leasedChild(func(*Server) {}),
		"a filter":                 leased(func(s *Server) { s.Headers["Authorization"] = "Basic {{db.username|basic:db.password}}" }),
		"a token":                  leased(withPolicies("mcp-vault", "team/a")),
		"a token alone":            remote(withPolicies("mcp-vault")),
		"http to this machine":     leased(func(s *Server) { s.URL = "http://127.0.0.1:8080/mcp" }),
		"http to the whole block":  leased(func(s *Server) { s.URL = "http://127.1.2.3/" }),
		"http to localhost":        leased(func(s *Server) { s.URL = "http://localhost:8080/" }),
		"http to IPv6's loopback":  leased(func(s *Server) { s.URL = "http://[::1]:8080/" }),
		"SSE":                      leased(func(s *Server) { s.Transport = TransportSSE }),
		"http without credentials": remote(func(s *Server) { s.URL = "http://h.example/" }),
		"a file and its path": leasedChild(func(s *Server) {
			s.Files = map[string]string{"tls.key": "{{db.key}}\n"}
			s.Env["KEY"] = "--key={{file.tls.key}}"
		}),
		"a credential in a file alone": leasedChild(func(s *Server) { s.Files, s.Env = map[string]string{"a": "{{db.x}}"}, nil }),
		"a file that nothing names":    child(func(s *Server) { s.Files = map[string]string{"a": "${HOME}"} }),
		"sixteen credentials": leased(func(s *Server) {
			s.Credentials = many(16, credential.Spec{Path: "kv/data/a"})
			s.Headers = map[string]string{"X-A": "{{c0.a}}{{c1.a}}{{c2.a}}{{c3.a}}{{c4.a}}{{c5.a}}{{c6.a}}{{c7.a}}{{c8.a}}{{c9.a}}{{c10.a}}{{c11.a}}{{c12.a}}{{c13.a}}{{c14.a}}{{c15.a}}"}
		}),
		"braces that stand for themselves": child(func(s *Server) { s.Env = map[string]string{"FORMAT": `{{"{{"}}.Time}}`, "JSON": `{"a":{"b":1}}`} }),
		"a template of Go in args":         child(func(s *Server) { s.Args = []string{"--format={{.Names}}"} }),
	} {
		if err := server.Check().Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUpstreamPoliciesOfAClientHaveAForm(t *testing.T) {
	for name, tc := range map[string]struct {
		policies []string
		want     string
	}{
		"none":                 {nil, ""},
		"an empty list":        {[]string{}, ""},
		"two":                  {[]string{"mcp-upstream", "team-a"}, ""},
		"a policy in capitals": {[]string{"Team"}, "upper-case"},
		"root":                 {[]string{"root"}, "allows everything"},
		"an empty name":        {[]string{""}, "0 characters"},
	} {
		problems := (&Client{UpstreamPolicies: tc.policies}).Check()
		if tc.want == "" && len(problems) > 0 || tc.want != "" && (len(problems) != 1 || problems[0].Field != "upstream_policies" || !strings.Contains(problems[0].Error(), tc.want)) {
			t.Errorf("%s: %v", name, problems.Err())
		}
	}
}
