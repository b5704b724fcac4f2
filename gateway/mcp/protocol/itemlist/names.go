package itemlist

import "vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"

// Names calls each with the name of every tool in a message that has a list of tools, and does
// nothing with other messages.
func Names(message []byte, each func(tool string)) error {
	_, err := filtered(message, nil, func(kind rewrite.Kind) func(string) bool {
		if kind != rewrite.Tools {
			return nil
		}
		return func(tool string) bool {
			each(tool)
			return true
		}
	})
	return err
}
