package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"vault-plugin-secrets-mcp/bootstrap/connect"
)

// registered is a server over HTTP as the engine shows it: with the names of its
// headers and of its query, and without their values.
type registered struct {
	name      string
	transport string
	url       string
	secrets   []string // the names of headers and of the query
}

// checkServers looks whether the servers that are registered answer from this
// machine, and speak MCP. It returns their names.
func (e *examination) checkServers(ctx context.Context) []string {
	names, err := e.names(ctx, "servers")
	switch {
	case err != nil:
		e.wrong("use a token that may list servers", "the servers cannot be listed: %s", connect.Reason(err))
	case len(names) == 0:
		e.wrong("register one: vault write "+e.Mount+"/servers/NAME transport=http url=https://…", "no server is registered")
	}
	for _, name := range names {
		server, err := e.ask(ctx, e.Mount+"/servers/"+name)
		if err != nil || server == nil {
			continue // deleted meanwhile
		}
		if server["disabled"] == true {
			e.ok("the server %s is disabled: no client reaches it until disabled=false is written", name)
			continue
		}
		if server["credentials"] != nil || len(texts(server["vault_policies"])) > 0 {
			e.leasing = append(e.leasing, name)
			e.tokenPolicies[name] = texts(server["vault_policies"])
		}
		address, _ := server["url"].(string)
		if address == "" {
			e.checkCommand(name, fmt.Sprint(server["command"]))
			continue
		}
		s := registered{name: name, transport: fmt.Sprint(server["transport"]), url: address, secrets: append(texts(server["headers"]), texts(server["url_query"])...)}
		e.remote = append(e.remote, s)
		e.checkRemote(ctx, s)
	}
	return names
}

// checkRemote begins an MCP session with the server, as the gateway would, except for
// its credentials: nobody can read those.
func (e *examination) checkRemote(ctx context.Context, s registered) {
	client, err := e.clientFor(s.name)
	if err != nil {
		e.wrong("correct the block upstream \""+s.name+"\" of the gateway's file", "the server %s cannot be asked: %v", s.name, err)
		return
	}
	got, err := greet(ctx, client, s, http.Header{})
	if err != nil {
		e.wrong("start it, or correct its url; from the gateway's machine it may be reachable all the same", "the server %s does not answer at %s: %v", s.name, s.url, err)
		return
	}
	todo, what := e.misfit(s, got)
	switch {
	case what == "":
		e.ok("the server %s answers at %s and speaks MCP", s.name, s.url)
	case len(s.secrets) > 0 && !isSlash(s.url, got.location):
		// It may answer like this because it was not given them.
		e.ok("the server %s answers at %s; whether it speaks MCP and takes the gateway's credentials was not looked at, since nobody can read them here: "+
			"without them %s. Try it through the gateway: -try-token, with the token of a client that may reach it", s.name, s.url, what)
	default:
		e.wrong(todo, "the server %s cannot be used: %s", s.name, what)
	}
}

// clientFor is an HTTP client that trusts whom the gateway trusts.
func (e *examination) clientFor(server string) (*http.Client, error) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if e.gateway == nil {
		return client, nil
	}
	settings, trusted := e.gateway.Upstream(server), &tls.Config{MinVersion: tls.VersionTLS12}
	if settings.CACertFile != "" {
		pem, err := os.ReadFile(settings.CACertFile)
		if err != nil {
			return nil, err
		}
		trusted.RootCAs = x509.NewCertPool()
		trusted.RootCAs.AppendCertsFromPEM(pem) // the file was checked when it was read
	}
	if settings.ClientCertFile != "" {
		pair, err := tls.LoadX509KeyPair(settings.ClientCertFile, settings.ClientKeyFile)
		if err != nil {
			return nil, err
		}
		trusted.Certificates = []tls.Certificate{pair}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig, transport.Proxy = trusted, nil
	client.Transport = transport
	return client, nil
}

// misfit returns the reason why a server's answer is not an answer of MCP, with the
// remedy; "" if it is one.
func (e *examination) misfit(s registered, got answer) (todo, what string) {
	correct := func(url string) string {
		return fmt.Sprintf("register %s: vault write %s/servers/%s url=%s, with its headers, if it has any", url, e.Mount, s.name, url)
	}
	const lookAtURL = "correct its url: it is the one that its documentation calls the MCP endpoint"
	switch {
	case speaksMCP(s, got):
		return "", ""
	case got.code >= 300 && got.code < 400 && got.location != "":
		return correct(got.location), fmt.Sprintf("it redirects with %s to %s, and the gateway follows no redirect", got.status, got.location)
	case got.code == http.StatusUnauthorized || got.code == http.StatusForbidden:
		return fmt.Sprintf("register the credentials that it wants: vault write %s/servers/%s headers=Authorization=…", e.Mount, s.name),
			"it refuses the gateway's credentials: it answers " + got.status
	case got.code == http.StatusTooManyRequests:
		return "wait, or have its limit raised: the requests of all clients come from the gateway", "it answers " + got.status + ": it has had too many requests"
	case got.code == http.StatusMethodNotAllowed && s.transport == "http":
		return lookAtURL + "; if it speaks SSE, the older transport, register it with transport=sse", "it takes no messages at " + s.url + ": it answers " + got.status
	case got.code >= 500:
		return "look at its log", "it answers " + got.status
	case got.code >= 400:
		return lookAtURL, "it answers " + got.status + " to the first message of MCP"
	}
	return lookAtURL, fmt.Sprintf("the endpoint at %s is not MCP: its answer is of the type %q", s.url, got.media)
}

// speaksMCP reports whether the answer is one of the protocol: a result, or an
// error, of JSON-RPC.
func speaksMCP(s registered, got answer) bool {
	if s.transport == "sse" {
		return got.code == http.StatusOK && got.media == mediaEvents
	}
	isMessage := strings.Contains(got.body, `"jsonrpc"`) && (strings.Contains(got.body, `"result"`) || strings.Contains(got.body, `"error"`))
	switch got.code {
	case http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusNotAcceptable:
		// A server that knows no sessions refuses to begin one in its own words.
		return isMessage && (got.media == mediaEvents || got.media == mediaJSON)
	}
	return false
}

const (
	mediaJSON   = "application/json"
	mediaEvents = "text/event-stream"
)

// hello begins a session.
const hello = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"mcp-bootstrap doctor","version":"1"}}}`

// greet sends a server the first request of its transport, and ends the session
// that it begins.
func greet(ctx context.Context, client *http.Client, s registered, header http.Header) (answer, error) {
	header.Set("Accept", mediaJSON+", "+mediaEvents)
	if s.transport == "sse" {
		header.Set("Accept", mediaEvents)
		return exchange(ctx, client, http.MethodGet, s.url, header, "")
	}
	header.Set("Content-Type", mediaJSON)
	got, err := exchange(ctx, client, http.MethodPost, s.url, header, hello)
	if got.session != "" {
		header.Set("Mcp-Session-Id", got.session)
		header.Set("Mcp-Protocol-Version", "2025-11-25")
		_, _ = exchange(ctx, client, http.MethodDelete, s.url, header, "") // servers need not allow it
	}
	return got, err
}

// isSlash reports whether a redirect leads to the same place with another end:
// credentials have no part in that.
func isSlash(from, to string) bool {
	a, errA := url.Parse(from)
	b, errB := url.Parse(to)
	return errA == nil && errB == nil && a.Hostname() == b.Hostname() && a.Path != b.Path && strings.TrimSuffix(a.Path, "/") == strings.TrimSuffix(b.Path, "/")
}

// tryServers speaks with each server through the gateway, as the client whose token
// is tried: with the credentials that the gateway has.
func (e *examination) tryServers(ctx context.Context) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, s := range e.remote {
		through := registered{name: s.name, transport: "http", url: strings.TrimSuffix(e.GatewayURL, "/") + "/servers/" + s.name + "/mcp"}
		got, err := greet(ctx, client, through, http.Header{"Authorization": {"Bearer " + e.ClientToken}})
		const log = "the gateway's log has the status and the Location that the server answers with; doctor without -try-token says more of servers that want no credentials"
		switch {
		case err != nil:
			e.wrong(startGateway, "the gateway does not answer for the server %s: %v", s.name, err)
		case got.code == http.StatusForbidden: // this client may not reach it
		case got.code == http.StatusOK && speaksMCP(through, got):
			e.ok("the client of MCP_TOKEN reaches the server %s through the gateway", s.name)
		default:
			e.wrong(log, "the server %s cannot be used through the gateway, which answers %s: %s", s.name, got.status, message(got.body))
		}
	}
}
