package access

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/config"
)

// auditFile is the output to a file.
//
// Written means that the operating system has taken the line. That survives a
// crash of the gateway, though not one of the machine.
type auditFile struct {
	log  hclog.Logger
	path string // "": it is not opened again
	file io.WriteCloser
	torn atomic.Bool // the last write may have ended inside a line
}

func openAuditFile(path string) (io.WriteCloser, error) {
	if path == config.AuditStdout {
		return nopCloser{os.Stdout}, nil
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return file, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func (f *auditFile) write(_ uint64, lines []byte) (lost int, err error) {
	if f.torn.Load() {
		lines = append([]byte{'\n'}, lines...)
	}
	_, err = f.file.Write(lines)
	f.torn.Store(err != nil)
	if err != nil {
		lost = bytes.Count(lines, []byte{'\n'})
	}
	return lost, err
}

// mayHang: only a plain file does not.
func (f *auditFile) mayHang() bool {
	file, ok := f.file.(*os.File)
	if !ok {
		return true
	}
	info, err := file.Stat()
	return err != nil || !info.Mode().IsRegular()
}

func (f *auditFile) up() bool { return !f.torn.Load() }

func (f *auditFile) reopen() {
	if f.path == config.AuditStdout || f.path == "" {
		return
	}
	file, err := openAuditFile(f.path)
	if err != nil {
		f.log.Error("cannot reopen the audit log: the old file stays in use", "error", err)
		return
	}
	f.close()
	f.file = file
	f.log.Info("reopened the audit log", "file", f.path)
}

// abort: nothing ends a write to a file.
func (*auditFile) abort() {}

func (f *auditFile) close() {
	if err := f.file.Close(); err != nil {
		f.log.Error("cannot close the audit log", "error", err)
	}
}
