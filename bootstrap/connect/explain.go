package connect

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/policies"
)

// explained is an error of Vault's client in one line. It keeps the original for errors.As.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// Explain puts an error of Vault's client into one line, with a remedy where that is
// clear. Nil stays nil.
func Explain(err error) error {
	if err == nil {
		return nil
	}
	text, advice := Reason(err), Advice(err)
	if advice != "" {
		text += ": " + advice
	}
	return &explained{text, err}
}

// Reason is an error of Vault's client in one line.
func Reason(err error) string {
	var answer *api.ResponseError
	if errors.As(err, &answer) {
		return fmt.Sprintf("%d %s", answer.StatusCode, oneLine(strings.Join(answer.Errors, "; ")))
	}
	var request *url.Error // "Get "https://…": why"
	if errors.As(err, &request) {
		err = request.Err
	}
	return oneLine(err.Error())
}

// counted is how Vault begins a list of errors.
var counted = regexp.MustCompile(`\d+ errors? occurred:\s*\*\s*`)

// oneLine removes line feeds, and the half screen that Vault adds, twice, about the file of a
// plugin that cannot start.
func oneLine(text string) string {
	text, _, _ = strings.Cut(text, "This usually means")
	text = counted.ReplaceAllString(text, "")
	text = strings.Join(strings.Fields(text), " ")
	return strings.TrimSpace(strings.ReplaceAll(text, " * ", "; "))
}

// Advice is the remedy for an error of Vault's client; "" where that is not clear.
func Advice(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "it was interrupted"
	case IsInvalidToken(err):
		return "Vault does not know the token, or it has ended: set VAULT_TOKEN to another, or run `vault login`"
	case hasStatus(err, http.StatusForbidden):
		return granted(err)
	case hasStatus(err, http.StatusServiceUnavailable) && strings.Contains(err.Error(), "sealed"):
		return "run `vault operator unseal` on each server"
	case strings.Contains(err.Error(), "outside of configured plugin directory"):
		return "Vault follows no symbolic link here: write the real path of the folder as plugin_directory into Vault's file, and put a copy of the program there"
	case strings.Contains(err.Error(), "HTTP request to an HTTPS server"):
		return "VAULT_ADDR must begin with https://"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "it does not speak TLS: VAULT_ADDR must begin with http://"
	}
	return networkAdvice(err)
}

// granted names the policies that grant a request that Vault has refused.
func granted(err error) string {
	does := func(name string) string { return name + " does (bootstrap/policies/" + name + ".hcl)" }
	const none = "the Vault token has no policy that grants this: "
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return none + does(policies.AdminName)
	}
	reads := answer.HTTPMethod == http.MethodGet || answer.HTTPMethod == "LIST"
	switch about := partOfEngine(answer.URL); {
	case about == "pins" && reads:
		return none + does(policies.ApproverName) + ", and " + does(policies.AuditorName)
	case about == "pins":
		return none + does(policies.ApproverName)
	case about == "servers" && !reads:
		return none + does(policies.AdminName) + ", and with pin=enforce " + does(policies.RegistrarName)
	}
	return none + does(policies.AdminName)
}

// enginePart finds the pins or servers of an engine at any mount.
var enginePart = regexp.MustCompile(`^/v1/(.+?)/(pins|servers)(/[^/]*)?$`)

// partOfEngine is "pins" or "servers" if a URL of Vault is about these. Paths of gateways, and
// other things of these names, do not count.
func partOfEngine(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	found := enginePart.FindStringSubmatch(u.Path)
	if len(found) == 0 || slices.Contains([]string{"gateway", "clients", "roles", "policies", "creds"}, path.Base(found[1])) {
		return ""
	}
	return found[2]
}

func networkAdvice(err error) string {
	var unknown x509.UnknownAuthorityError
	var name *net.DNSError
	var other x509.HostnameError
	var refused *net.OpError
	switch {
	case errors.As(err, &unknown):
		return "set VAULT_CACERT to the file with Vault's certificate authority"
	case errors.As(err, &other):
		return "set VAULT_TLS_SERVER_NAME to the name in Vault's certificate"
	case errors.As(err, &name):
		return "correct the name in VAULT_ADDR"
	case errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &refused) && refused.Op == "dial", errors.Is(err, context.DeadlineExceeded):
		return "start Vault, or point VAULT_ADDR at it"
	case isRequestError(err):
		return "the connection ended before an answer came"
	case hasStatus(err, http.StatusTooManyRequests):
		return "a quota of Vault's is reached: wait, or see `vault list sys/quotas/rate-limit`"
	case NoAnswer(err):
		return "Vault's own log says more"
	}
	return ""
}

// NoAnswer reports whether a failed request may have been carried out anyway: there was no
// answer, or the answer does not say.
func NoAnswer(err error) bool {
	var answer *api.ResponseError
	if errors.As(err, &answer) {
		return answer.StatusCode >= http.StatusInternalServerError
	}
	return isRequestError(err)
}

// isRequestError reports whether nothing was answered at all.
func isRequestError(err error) bool {
	var request *url.Error
	return errors.As(err, &request) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// IsInvalidToken reports whether Vault does not know the token, which is another
// thing than a token without a right.
func IsInvalidToken(err error) bool {
	return hasStatus(err, http.StatusForbidden) && strings.Contains(err.Error(), "invalid token")
}

func hasStatus(err error, status int) bool {
	var answer *api.ResponseError
	return errors.As(err, &answer) && answer.StatusCode == status
}
