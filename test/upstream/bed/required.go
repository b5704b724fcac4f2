package bed

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// Promised is how long after the answer to a revocation nothing may be left.
const Promised = time.Second

// Whole reports whether the tests run with a whole Vault, a database and an LDAP server.
func Whole() bool { return os.Getenv("TEST_UPSTREAM") == "required" }

// Required skips a test that needs PostgreSQL or slapd and a whole Vault, unless they were
// asked for; then it fails the test if the machine lacks any part.
func Required(t testing.TB) {
	t.Helper()
	if !Whole() {
		t.Skip("runs in make test-upstream: it needs a whole Vault, PostgreSQL and slapd")
	}
	missing, err := missingParts()
	if err != nil {
		t.Fatal(err)
	}
	if missing != "" {
		t.Fatalf("missing on this machine:\n%s", missing)
	}
}

// missingParts are the parts that scripts/field.sh does not find.
var missingParts = sync.OnceValues(func() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	cmd := exec.Command(filepath.Join(filepath.Dir(file), "..", "..", "..", "scripts", "field.sh"), "missing", "upstream")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
})

func splitAddress(t testing.TB, address string) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}
