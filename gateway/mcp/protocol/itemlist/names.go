package itemlist

import "vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"

// Names calls each with the name of every tool in a message that has a list of tools, and does
// nothing with other messages.
func Names(message []byte, each func(tool string)) error {
	r, err := newRun(message)
	if err != nil {
		return err
	}
	r.guardList(rewrite.Tools, func(tool string) bool {
		each(tool)
		return true
	})
	_, err = r.read()
	return err
}
