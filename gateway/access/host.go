package access

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
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
		// Proxies may leave out the port.
		h.names = append(h.names, strings.ToLower(listener.PublicURL.Host), strings.ToLower(listener.PublicURL.Hostname()))
	}
	for _, name := range listener.AllowedHosts {
		name = strings.ToLower(name)
		h.names = append(h.names, name)
		if bare, port, err := net.SplitHostPort(name); err == nil && (port == "443" || port == "80") {
			h.names = append(h.names, bare) // clients leave out a port that goes without saying
		}
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
	name = strings.TrimSuffix(name, ".") // the root of all names
	if slices.Contains(h.names, header) || slices.Contains(h.names, name) || name == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && (h.anyIP || addr.IsLoopback())
}

// refusedHost is the answer to a request for another service. Behind a proxy the setting
// is often missing, so answer and audit log name the header.
func refusedHost(host string) *Refusal {
	name := clip(host)
	return &Refusal{
		Status: http.StatusForbidden,
		Reason: ReasonHost,
		Detail: "Host: " + name,
		Message: "This gateway does not serve the host \"" + name + "\", which the request names. " +
			"If it is the gateway's name, set public_url or allowed_hosts in the block listener of the gateway's file.",
	}
}

// origins are the web origins whose pages may use the gateway.
type origins struct {
	exact      []string // lower case
	subdomains []subdomains
}

// subdomains are the origins of all names below one, at any depth.
type subdomains struct {
	scheme string // "https://"
	suffix string // ".example.com", perhaps with a port
}

func newOrigins(listed []string) *origins {
	o := &origins{}
	for _, origin := range listed {
		origin = strings.ToLower(origin)
		if scheme, suffix, ok := strings.Cut(origin, "*"); ok {
			o.subdomains = append(o.subdomains, subdomains{scheme, suffix})
		} else {
			o.exact = append(o.exact, origin)
		}
	}
	return o
}

// allows reports whether an Origin header is that of a page that may use the
// gateway.
func (o *origins) allows(header string) bool {
	origin := strings.ToLower(header)
	if slices.Contains(o.exact, origin) {
		return true
	}
	for _, s := range o.subdomains {
		rest, ok := strings.CutPrefix(origin, s.scheme)
		if !ok {
			continue
		}
		if labels, ok := strings.CutSuffix(rest, s.suffix); ok && isLabels(labels) {
			return true
		}
	}
	return false
}

// isLabels reports whether the text can be the first labels of a name.
func isLabels(text string) bool {
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || !validName(label) {
			return false
		}
	}
	return true
}

// admitPage lets the page of an allowed origin read every answer, refusals too.
// Otherwise the page would only learn that something failed. It reports whether the
// request is a page's preflight.
func (g *Gate) admitPage(w http.ResponseWriter, r *http.Request) (preflight bool) {
	origin := r.Header.Get("Origin")
	if origin == "" || !g.origins.allows(origin) {
		return false
	}
	header := w.Header()
	header.Set("Access-Control-Allow-Origin", origin)
	header.Add("Vary", "Origin")
	if r.Method != http.MethodOptions {
		header.Set("Access-Control-Expose-Headers", protocol.HeaderSession+", "+protocol.HeaderVersion+", Www-Authenticate, Retry-After")
		return false
	}
	return true
}

// checkOrigin refuses pages of origins that are not listed.
func (g *Gate) checkOrigin(r *http.Request) *Refusal {
	if origin := r.Header.Get("Origin"); origin == "" || g.origins.allows(origin) {
		return nil
	}
	return &Refusal{
		Status:  http.StatusForbidden,
		Reason:  ReasonOrigin,
		Message: "This web origin may not use the gateway: allowed_origins in the block listener of its file does not list it.",
	}
}

// answerPreflight tells a browser which requests a page of an allowed origin may send.
func answerPreflight(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Access-Control-Allow-Methods", "POST, GET, DELETE")
	header.Set("Access-Control-Allow-Headers", preflightHeaders(r.Header.Get("Access-Control-Request-Headers")))
	header.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
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
