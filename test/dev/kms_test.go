package dev

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDevShowsSealedTokensWithADoubleOfKMS(t *testing.T) {
	program := filepath.Join(t.TempDir(), "kms-double")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../kms/cmd/kms-double").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	d := startDev(t, filepath.Join(t.TempDir(), "dev"), freeAddresses(t), "-kms", "-kms-double="+program)
	d.awaitReady(t)
	if _, client := d.tokens(t); !strings.HasPrefix(client, "mcpk_") {
		t.Error("the client's token is not sealed")
	}
	if statuses, out := d.runPrinted(t); statuses != "200 403 401 200 401" {
		t.Errorf("the calls were answered %s:\n%s", statuses, out)
	}
	d.interrupt(t)
	d.assertNothingLeft(t)
}
