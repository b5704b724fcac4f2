package access

import (
	"net/http"
	"strings"

	"vault-plugin-secrets-mcp/backend/token"
)

// bearer returns the token of the Authorization header, the one place where a
// token may be. Its form is checked here, so that nothing that cannot be a
// token costs a request to Vault.
func bearer(header http.Header) (string, *Refusal) {
	values := header["Authorization"]
	if len(values) == 0 {
		return "", noToken()
	}
	const scheme = "bearer"
	value := values[0] // a second one was refused before
	if len(value) <= len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) || value[len(scheme)] != ' ' {
		return "", noToken()
	}
	text := strings.Trim(value[len(scheme):], " ")
	if text == "" {
		return "", noToken()
	}
	if err := token.Malformed(text); err != nil {
		f := invalidToken(ReasonMalformedToken)
		f.Detail = err.Error()
		return "", f
	}
	return text, nil
}
