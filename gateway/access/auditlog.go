package access

import (
	"sync"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/syslog"
)

// AuditLog writes lines to a file, and to a syslog server where the configuration has one, in
// the order in which they come.
type AuditLog struct {
	file     *lineWriter
	syslog   *lineWriter // nil: there is none
	required bool        // of syslog
	order    sync.Mutex  // keeps the order of lines the same in both
}

// OpenAuditLog opens the log. Close it to have everything written.
func OpenAuditLog(settings config.Audit, log hclog.Logger) (*AuditLog, error) {
	file, err := openAuditFile(settings.File)
	if err != nil {
		return nil, err
	}
	var client *syslog.Client
	if settings.Syslog != nil {
		if client, err = syslog.Open(settings.Syslog, log.Named("syslog")); err != nil {
			_ = file.Close()
			return nil, err
		}
	}
	a := &AuditLog{file: newFileWriter(&auditFile{log: log, path: settings.File, file: file}, log)}
	if client == nil {
		return a, nil
	}
	a.required = settings.Syslog.Required
	effect := "requests that would be allowed are refused"
	if !a.required {
		effect = "lines wait in memory"
	}
	a.syslog = newLineWriter(&lineWriter{
		log: log, name: "the syslog server", effect: effect, backlog: int(settings.Syslog.MaxQueue), output: &auditSyslog{client},
	})
	return a, nil
}

func newFileWriter(file output, log hclog.Logger) *lineWriter {
	return newLineWriter(&lineWriter{
		log: log, name: "the audit log", effect: "requests that would be allowed are refused", backlog: auditBacklog, output: file,
	})
}

// Close writes the remaining lines, and ends the log.
func (a *AuditLog) Close() {
	a.file.close()
	if a.syslog != nil {
		a.syslog.close()
	}
}

// Write returns once the line is written: to the file, and to the syslog server where that is
// required. The error is ErrAudit, and means that it may not have been.
func (a *AuditLog) Write(line []byte) error {
	if a.syslog == nil {
		return a.file.write(line)
	}
	a.order.Lock()
	var sent waiting
	if a.required {
		if sent = a.syslog.enqueue(line); sent.batch == nil {
			a.order.Unlock()
			return ErrAudit
		}
	} else {
		a.syslog.append(line)
	}
	written := a.file.enqueue(line)
	a.order.Unlock()
	if err := a.file.finish(&written); err != nil || !a.required {
		return err
	}
	return a.syslog.finish(&sent)
}

// Append has the line written soon.
func (a *AuditLog) Append(line []byte) {
	if a.syslog == nil {
		a.file.append(line)
		return
	}
	a.order.Lock()
	defer a.order.Unlock()
	a.file.append(line)
	a.syslog.append(line)
}

// AuditStats is a look at the log's state, for metrics.
type AuditStats struct {
	Up   bool // the last write succeeded, and none hangs
	Lost int  // lines, because a write failed or hung
}

// Stats returns those of the file.
func (a *AuditLog) Stats() AuditStats { return a.file.stats() }

// SyslogStats returns those of the syslog server; nil if there is none.
func (a *AuditLog) SyslogStats() func() AuditStats {
	if a.syslog == nil {
		return nil
	}
	return a.syslog.stats
}

// Reopen opens the file again after it was moved away, and connects to the syslog server
// again.
func (a *AuditLog) Reopen() {
	a.file.reopen()
	if a.syslog != nil {
		a.syslog.output.reopen()
	}
}
