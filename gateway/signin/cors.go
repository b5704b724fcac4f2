package signin

import (
	"net/http"
	"strings"
)

// allowAnyOrigin lets pages of every origin read the answer. Applications that run in a
// browser need the documents, and exchange their codes from there. Nothing at these
// endpoints relies on a cookie or on the network that the browser is in, so a page learns no
// more than a program anywhere would. The pages of sign-in, with their cookies, never get
// these headers.
func allowAnyOrigin(header http.Header) {
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate")
	header.Del("Vary")
}

// answerPreflight tells a browser which requests a page may send.
func answerPreflight(w http.ResponseWriter, methods []string) {
	header := w.Header()
	header.Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
	header.Set("Access-Control-Allow-Headers", "authorization, content-type, accept, mcp-protocol-version")
	header.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}
