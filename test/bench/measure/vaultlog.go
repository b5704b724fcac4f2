package measure

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

// VaultLog reads Vault's own audit log, to count the requests that Vault has answered.
type VaultLog struct {
	t      testing.TB
	file   *os.File
	reader *bufio.Reader
	part   []byte // of a line that is not written to its end yet
}

// NewVaultLog opens it at its present end.
func NewVaultLog(t testing.TB, h *harness.Harness) *VaultLog {
	t.Helper()
	file, err := os.Open(filepath.Join(h.Dir, "vault-audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	if _, err := file.Seek(0, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	return &VaultLog{t: t, file: file, reader: bufio.NewReaderSize(file, 1<<20)}
}

// VaultAnswer is one answer of Vault's without an error.
type VaultAnswer struct {
	At   time.Time
	Path string
}

// Next returns the answers that came since the last call. Those with an error are left out: a
// request that took too long is repeated.
func (l *VaultLog) Next() []VaultAnswer {
	l.t.Helper()
	var all []VaultAnswer
	for {
		line, err := l.reader.ReadSlice('\n')
		if l.part = append(l.part, line...); errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			l.t.Fatal(err)
		}
		var entry struct {
			Time    time.Time
			Type    string
			Error   string
			Request struct{ Path string }
		}
		if err := json.Unmarshal(l.part, &entry); err != nil {
			l.t.Fatalf("a line of Vault's audit log: %v: %.300s", err, l.part)
		}
		l.part = l.part[:0]
		if entry.Type == "response" && entry.Error == "" {
			all = append(all, VaultAnswer{At: entry.Time, Path: entry.Request.Path})
		}
	}
}
