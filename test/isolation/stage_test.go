package isolation

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

// asRoot tells whether the gateway may run its children as somebody else.
var asRoot = os.Geteuid() == 0

// nobody is the account that children then run as.
const nobody = 65534

// openFolder is a folder that every account may enter.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "isolation") //nolint:usetesting // whose folder other accounts cannot enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyProgram copies a program to where every account may run it.
func copyProgram(t *testing.T, from, to string) string {
	t.Helper()
	if err := provision.CopyProgram(from, to, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// spyProgram is the spy's path.
func spyProgram(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return copyProgram(t, self, filepath.Join(openFolder(t), "spy"))
}

// newStage is a Vault in which the spy is registered.
func newStage(t *testing.T) (h *harness.Harness, program string) {
	t.Helper()
	h = harness.New(t)
	program = spyProgram(t)
	h.Write("mcp/servers/spy", harness.Map{"transport": "stdio", "command": program, "env": harness.Map{spyVariable: "1"}})
	return h, program
}

// stdioBlock allows commands, and has them run as somebody else where that can be.
func stdioBlock(commands ...string) map[string]string {
	user := ""
	if asRoot {
		user = fmt.Sprintf("user = \"%d\"\n", nobody)
	}
	return map[string]string{"stdio": fmt.Sprintf("allowed_commands = [%s]\nstop_timeout = \"1s\"\n%s", quoted(commands), user)}
}

func quoted(texts []string) string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = fmt.Sprintf("%q", text)
	}
	return strings.Join(all, ", ")
}

// ask calls one of the spy's tools.
func ask[T any](t *testing.T, session *mcp.ClientSession, tool string, arguments any) T {
	t.Helper()
	var answer T
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Fatal(err)
	}
	if result.IsError {
		t.Fatalf("%s: %v", tool, result.Content)
	}
	content, err := json.Marshal(result.StructuredContent)
	if err == nil {
		err = json.Unmarshal(content, &answer)
	}
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// ended is nil once no process of that id is there, not even as a zombie that its
// parent has not waited for.
func ended(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || strings.Contains(fmt.Sprint(err), "no such process") {
		return nil
	}
	return fmt.Errorf("it is there: %s %w", stat, errors.Join(err))
}

// end is when a process that was told to end must have.
const end = 10 * time.Second

// gone is ended for a process whose parent is not the gateway, and whose zombie
// somebody else has to see to.
func gone(pid int) error {
	err := ended(pid)
	if err != nil && strings.Contains(err.Error(), ") Z ") {
		return nil
	}
	return err
}
