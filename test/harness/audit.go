package harness

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/hashicorp/vault/api"
)

// auditLog is the log of the audit devices of all Vaults.
func (h *Harness) auditLog() string { return filepath.Join(h.Dir, "vault-audit.log") }

// auditLines declare the audit device in a server's file. OpenBao takes it from there alone,
// and Vault by a request alone.
func (h *Harness) auditLines() string {
	if !h.Programs.OpenBao {
		return ""
	}
	return fmt.Sprintf("audit \"file\" \"file\" {\n  options {\n    file_path = %q\n  }\n}\n", h.auditLog())
}

// audit switches the audit log on, or makes sure that it is.
func (h *Harness) audit(ctx context.Context) error {
	sys := h.Vault.Client().Sys()
	if !h.Programs.OpenBao {
		if err := sys.EnableAuditWithOptionsWithContext(ctx, "file", &api.EnableAuditOptions{
			Type:    "file",
			Options: map[string]string{"file_path": h.auditLog()},
		}); err != nil {
			return fmt.Errorf("cannot enable Vault's audit log: %w", err)
		}
		return nil
	}
	devices, err := sys.ListAuditWithContext(ctx)
	if err == nil && (devices["file/"] == nil || devices["file/"].Options["file_path"] != h.auditLog()) {
		err = fmt.Errorf("the devices are %v", devices)
	}
	if err != nil {
		return fmt.Errorf("OpenBao does not have the audit log of its file: %w", err)
	}
	return nil
}
