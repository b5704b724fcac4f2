package apply

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestServersAreReadInEveryFormOfAFile(t *testing.T) {
	t.Setenv("UPSTREAM", "a-credential")
	for name, content := range map[string]string{
		"one.json":  `{"name": "github", "transport": "streamable_http", "url": "https://example.com/mcp", "bearer_token": "${UPSTREAM}"}`,
		"list.json": `[{"name": "github", "transport": "streamable_http", "url": "https://example.com/mcp", "headers": {"Authorization": "Bearer ${UPSTREAM}"}, "bearer_token": "another"}]`,
		"own.hcl": `server "github" {
  transport = "http"
  url       = "https://example.com/mcp"
  headers   = { Authorization = "Bearer ${env("UPSTREAM")}" }
}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			servers, _, err := LoadServers(path)
			if err != nil || len(servers) != 1 {
				t.Fatal(servers, err)
			}
			data := servers[0].Data
			headers, _ := data["headers"].(map[string]string)
			if servers[0].Name != "github" || data["transport"] != "http" || headers["Authorization"] != "Bearer a-credential" {
				t.Errorf("%v", data)
			}
		})
	}
}

func TestAllMistakesOfAFileOfServersAreListed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.json")
	if err := os.WriteFile(path, []byte(`[{"name": "a", "transport": "http"}, {"name": "b", "transport": "stdio"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := LoadServers(path)
	if err == nil || !strings.HasPrefix(err.Error(), "the file has 2 mistakes:\n  "+path) || strings.Count(err.Error(), "\n  "+path) != 2 {
		t.Errorf("err = %v", err)
	}
}

func TestWhatIsNoServerIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ file, content, want string }{
		"a configuration beside it": {"a.hcl", "config {\n  max_ttl = \"1h\"\n}\nserver \"x\" {\n  transport = \"http\"\n}\n", "servers alone"},
		"a policy":                  {"a.json", `{"deniedMcpServers": []}`, "servers alone"},
		"nothing":                   {"a.json", `[]`, "no server"},
		"one name twice":            {"a.json", `[{"name": "a", "transport": "http"}, {"name": "a", "transport": "sse"}]`, "already"},
		"another ending":            {"a.txt", ``, ".hcl, .json or .toml"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), test.file)
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := LoadServers(path); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func TestPinsAreSetWhereAFileSaysSo(t *testing.T) {
	for name, test := range map[string]struct {
		file, content string
		pin, kinds    any // nil: what somebody has set stays
		mistakes      []string
	}{
		"HCL": {"a.hcl", `server "a" {
  transport = "http"
  url       = "https://example.com/mcp"
  pin       = "enforce"
  pin_kinds = ["tool", "tool", "page"]
}`, "enforce", []string{"tool", "page"}, nil},
		"JSON":          {"a.json", `{"name": "a", "transport": "http", "url": "https://example.com/mcp", "pin": "observe", "pin_kinds": []}`, "observe", []string{}, nil},
		"an empty mode": {"a.json", `{"name": "a", "transport": "http", "url": "https://example.com/mcp", "pin": ""}`, "off", nil, nil},
		"neither":       {"a.json", `{"name": "a", "transport": "http", "url": "https://example.com/mcp"}`, nil, nil, nil},
		"mistakes": {"a.hcl", `server "a" {
  transport = "http"
  url       = "https://example.com/mcp"
  pin       = "enforced"
  pin_kinds = ["tools"]
}`, nil, nil, []string{`a.hcl:4: server "a": field pin: "enforced" is not a valid mode`, `a.hcl:5: server "a": field pin_kinds: "tools" is not a valid kind`}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), test.file)
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			servers, _, err := LoadServers(path)
			for _, mistake := range test.mistakes {
				if err == nil || !strings.Contains(err.Error(), mistake) {
					t.Errorf("%q is missing in %v", mistake, err)
				}
			}
			if len(test.mistakes) > 0 {
				return
			}
			if err != nil || len(servers) != 1 {
				t.Fatal(servers, err)
			}
			if data := servers[0].Data; !reflect.DeepEqual(data["pin"], test.pin) || !reflect.DeepEqual(data["pin_kinds"], test.kinds) {
				t.Errorf("%v", data)
			}
		})
	}
}
