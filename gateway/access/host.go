package access

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/gateway/config"
)

// hosts decides which Host headers are the gateway's own. A web page whose name
// was made to resolve to the gateway's address sends its own name there.
type hosts struct {
	names []string // lower case; with or without a port
	anyIP bool     // any IP address will do
}

func newHosts(listener config.Listener) *hosts {
	h := &hosts{}
	host, _, err := net.SplitHostPort(listener.Address)
	if err == nil && host != "" {
		h.names = append(h.names, strings.ToLower(host))
	}
	if listener.PublicURL != nil {
		h.names = append(h.names, strings.ToLower(listener.PublicURL.Host))
	}
	for _, name := range listener.AllowedHosts {
		h.names = append(h.names, strings.ToLower(name))
	}
	addr, err := netip.ParseAddr(host)
	loopback := host == "localhost" || err == nil && addr.IsLoopback()
	h.anyIP = !loopback && listener.PublicURL == nil && len(listener.AllowedHosts) == 0
	return h
}

// allows reports whether a Host header may be served.
func (h *hosts) allows(header string) bool {
	header = strings.ToLower(header)
	name := header
	if host, _, err := net.SplitHostPort(header); err == nil {
		name = host
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if slices.Contains(h.names, header) || slices.Contains(h.names, name) || name == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && (h.anyIP || addr.IsLoopback())
}

// checkOrigin refuses pages of origins that are not listed, and answers the
// preflight of those that are. It reports true when the request is answered.
func (g *Gate) checkOrigin(w http.ResponseWriter, r *http.Request, req *Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	if !slices.Contains(g.origins, strings.ToLower(origin)) {
		refuse(w, req, &Refusal{
			Status:  http.StatusForbidden,
			Reason:  ReasonOrigin,
			Message: "This web origin may not use the gateway.",
		})
		return true
	}
	header := w.Header()
	header.Set("Access-Control-Allow-Origin", origin)
	header.Add("Vary", "Origin")
	if r.Method != http.MethodOptions {
		header.Set("Access-Control-Expose-Headers", "Mcp-Session-Id, Mcp-Protocol-Version, Www-Authenticate, Retry-After")
		return false
	}
	header.Set("Access-Control-Allow-Methods", "POST, GET, DELETE")
	header.Set("Access-Control-Allow-Headers", preflightHeaders(r.Header.Get("Access-Control-Request-Headers")))
	header.Set("Access-Control-Max-Age", "600")
	req.preflight, req.status = true, http.StatusNoContent
	w.WriteHeader(req.status)
	return true
}

// preflightHeaders picks, of the headers that a page asks for, those that an
// MCP client needs.
func preflightHeaders(asked string) string {
	const most = 4096
	if len(asked) > most {
		return ""
	}
	var allowed []string
	for name := range strings.SplitSeq(asked, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		switch name {
		case "authorization", "content-type", "accept", "last-event-id", "traceparent", "tracestate":
			allowed = append(allowed, name)
		default:
			if strings.HasPrefix(name, "mcp-") && !strings.ContainsAny(name, "\r\n\"") {
				allowed = append(allowed, name)
			}
		}
	}
	return strings.Join(allowed, ", ")
}
