package apply

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
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

func TestAPlanSaysWhatAServerThatIsMovedLeavesBehind(t *testing.T) {
	have := func(fields map[string]any) map[string]any {
		all := (&server{name: "a", transport: "http", url: "https://example.com/mcp"}).shown()
		maps.Copy(all, fields)
		return all
	}
	const (
		url      = `~ url = "https://example.org/mcp" (was "https://example.com/mcp")`
		kinds    = `~ pin_kinds = [] (was ["page"])`
		approved = "- its approvals (pins/a), which are for the place where it led before"
	)
	pinned := map[string]any{"pin": "enforce", "pin_kinds": []any{"page"}}
	for name, test := range map[string]struct {
		have map[string]any
		url  string
		set  *[]string
		want []string
	}{
		"its pins":                                 {have(pinned), "https://example.org/mcp", nil, []string{url, kinds, approved}},
		"not the kinds that it repeats":            {have(pinned), "https://example.org/mcp", &[]string{"page"}, []string{url, approved}},
		"nothing where pins are off":               {have(map[string]any{"pin": "off", "pin_kinds": []any{}}), "https://example.org/mcp", nil, []string{url}},
		"nothing of an engine that knows no pins":  {have(nil), "https://example.org/mcp", nil, []string{url}},
		"nothing where it leads to the same place": {have(pinned), "https://example.com/mcp", nil, nil},
		"nothing where it is new":                  {nil, "https://example.org/mcp", nil, []string{`+ transport = "http"`, `+ url = "https://example.org/mcp"`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{name: "a", transport: "http", url: test.url, pinKinds: test.set}
			if lines := s.differences(test.have); !slices.Equal(lines, test.want) {
				t.Errorf("%q, not %q", lines, test.want)
			}
		})
	}
}

func TestPinsAreSetWhereAFileSaysSo(t *testing.T) {
	for name, test := range map[string]struct {
		file, content string
		pin, kinds    any // nil: the present value stays
		mistakes      []string
	}{
		"HCL": {"a.hcl", `server "a" {
  transport = "http"
  url       = "https://example.com/mcp"
  pin       = "enforce"
  pin_kinds = ["tool", "tool", "page"]
}`, "enforce", []string{"tool", "page"}, nil},
		"JSON":          {"a.json", `{"name": "a", "transport": "http", "url": "https://example.com/mcp", "pin": "observe", "pin_kinds": []}`, "observe", []string{}, nil},
		"an empty mode": {"a.json", `{"name": "a", "transport": "http", "url": "https://example.com/mcp", "pin": ""}`, nil, nil, []string{`server "a": field pin: it is empty`}},
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
