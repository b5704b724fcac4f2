package engine

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/test/harness"
)

// policyRow is a decision of Claude Code's, as it was observed.
type policyRow struct {
	ID          string
	Allow, Deny any // nil: unset
	Server      struct {
		Name, Type, URL, Command string
		Args                     []string
	}
	Expect  string
	Invalid bool `json:"invalid_entry"`
}

func TestEngineDecidesAsClaudeCodeDoes(t *testing.T) {
	content, err := os.ReadFile("../../backend/policy/testdata/policy-cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []policyRow }
	if err := json.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	h := harness.New(t)
	for _, row := range file.Cases {
		t.Run(row.ID, func(t *testing.T) {
			h := h.In(t)
			settings := harness.Map{}
			if row.Allow != nil {
				settings["allowedMcpServers"] = row.Allow
			}
			if row.Deny != nil {
				settings["deniedMcpServers"] = row.Deny
			}
			_, err := h.TryWrite("mcp/policies/"+row.ID, settings)
			if row.Invalid {
				wantBadInput(t, err, "McpServers")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer h.Delete("mcp/policies/" + row.ID)
			question := harness.Map{"policies": row.ID, "server_name": row.Server.Name}
			if row.Server.Type == "stdio" {
				question["command"], question["args"] = row.Server.Command, row.Server.Args
			} else {
				question["url"] = row.Server.URL
			}
			if answer := h.Write("mcp/evaluate", question); answer["decision"] != row.Expect {
				t.Errorf("decision %v (%v), observed %s", answer["decision"], answer["reason"], row.Expect)
			}
		})
	}
}

// wantBadInput fails the test unless a write was refused with status 400, and
// with words that say what is wrong.
func wantBadInput(t *testing.T, err error, words ...string) {
	t.Helper()
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		t.Fatalf("the write is answered with %v, want a refusal", err)
	}
	if answer.StatusCode != http.StatusBadRequest {
		t.Errorf("answered %d, want 400", answer.StatusCode)
	}
	for _, word := range words {
		if !strings.Contains(answer.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, answer.Errors)
		}
	}
}
