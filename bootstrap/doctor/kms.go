package doctor

import (
	"context"
	"fmt"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/policies"
)

// checkKMS looks whether tokens can be sealed where they shall be. Whether AWS KMS
// unwraps the data keys is the gateway's to say (checkGatewayState), and the
// engine's where a sealed token is tried.
func (e *examination) checkKMS(ctx context.Context) {
	settings, err := e.ask(ctx, e.Mount+"/config/kms")
	if err != nil {
		e.wrong("use a token with the policy "+policies.AdminName, "%s/config/kms cannot be read: %s", e.Mount, connect.Reason(err))
		return
	}
	config, err := e.ask(ctx, e.Mount+"/config")
	if err != nil {
		return // checkMount has read it a moment ago
	}
	e.kms = settings != nil
	keys, _ := settings["data_keys"].([]any)
	switch {
	case e.kms && len(keys) == 0:
		e.wrong(fmt.Sprintf("run `vault write -f %s/config/kms/rotate`", e.Mount), "%s/config/kms has no data key", e.Mount)
	case e.kms:
		e.ok("tokens are sealed under AWS KMS's %v where they shall be; data keys: %d", settings["key_arn"], len(keys))
	case config["seal"] == "kms":
		e.wrong(fmt.Sprintf("write %s/config/kms (docs/kms.md), or `vault write %s/config seal=none`", e.Mount, e.Mount),
			"tokens shall be sealed, and %s/config/kms is missing: no client is given any", e.Mount)
	}
}

// checkSeal looks for a client whose tokens cannot be sealed.
func (e *examination) checkSeal(name string, client map[string]any) {
	if client["seal"] == "kms" && !e.kms {
		e.wrong(fmt.Sprintf("write %s/config/kms (docs/kms.md), or `vault write %s/clients/%s seal=none`", e.Mount, e.Mount, name),
			"the tokens of the client %s shall be sealed, and %s/config/kms is missing: it is given none", name, e.Mount)
	}
}
