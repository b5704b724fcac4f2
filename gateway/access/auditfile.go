package access

import (
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/config"
)

// OpenAuditLog opens the log. Close it to have everything written.
func OpenAuditLog(settings config.Audit, log hclog.Logger) (*AuditLog, error) {
	output, err := openAuditFile(settings.File)
	if err != nil {
		return nil, err
	}
	a := newAuditLog(output, log)
	a.path = settings.File
	return a, nil
}

func (a *AuditLog) setOutput(output io.WriteCloser) {
	a.output = output
	file, ok := output.(*os.File)
	if !ok {
		return
	}
	info, err := file.Stat()
	a.plain = err == nil && info.Mode().IsRegular()
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

// Reopen has the file opened anew, after it was moved away.
func (a *AuditLog) Reopen() {
	select {
	case a.reopen <- struct{}{}:
	default:
	}
}

func (a *AuditLog) reopenFile() {
	if a.path == config.AuditStdout || a.path == "" {
		return
	}
	output, err := openAuditFile(a.path)
	if err != nil {
		a.log.Error("cannot reopen the audit log: the old file stays in use", "error", err)
		return
	}
	a.turn <- struct{}{}
	old := a.output
	a.mu.Lock()
	a.setOutput(output)
	a.mu.Unlock()
	<-a.turn
	if err := old.Close(); err != nil {
		a.log.Error("cannot close the old audit log", "error", err)
	}
	a.log.Info("reopened the audit log", "file", a.path)
}
