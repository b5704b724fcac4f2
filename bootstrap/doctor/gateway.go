package doctor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/connect"
)

const startGateway = "start the gateway, or correct MCP_GATEWAY_URL; the gateway's log and /readyz of its admin listener have the reason"

// maxBody bounds a gateway's answer.
const maxBody = 1 << 20

// checkGateway looks whether a gateway answers, has the right time, and refuses who
// has no token.
func (e *examination) checkGateway(ctx context.Context) bool {
	if e.GatewayURL == "" {
		e.ok("no gateway was looked at: MCP_GATEWAY_URL is not set")
		return false
	}
	got, err := e.knock(ctx, "")
	if err != nil {
		return e.wrong(startGateway, "no gateway answers at %s: %v", e.GatewayURL, err)
	}
	if got.code != http.StatusUnauthorized {
		return e.wrong(startGateway, "%s is not a gateway: it answers %s to a request without a token, and not 401", e.GatewayURL, got.status)
	}
	if at, err := http.ParseTime(got.date); err == nil {
		e.checkClock("the gateway", at)
	}
	return e.ok("the gateway answers at %s, and refuses who has no token", e.GatewayURL)
}

// knock asks the gateway for a server that nobody has registered. A token that is
// good is answered 403, any other 401. The body was read.
func (e *examination) knock(ctx context.Context, token string) (answer, error) {
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return send(ctx, http.MethodPost, strings.TrimSuffix(e.GatewayURL, "/")+"/servers/doctor/mcp", header, "{}")
}

// answer is the answer of a gateway or a server.
type answer struct {
	code     int
	status   string // "401 Unauthorized"
	date     string
	media    string // without parameters
	location string // of a redirect, absolute and without a query
	session  string
	body     string
}

// send sends a request and reads the answer. The error does not repeat the method and the
// address, which the caller knows.
func send(ctx context.Context, method, address string, header http.Header, content string) (answer, error) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return exchange(ctx, client, method, address, header, content)
}

// exchange is send by a client. Of a stream it reads the first event alone.
func exchange(ctx context.Context, client *http.Client, method, address string, header http.Header, content string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(content))
	if err != nil {
		return answer{}, err
	}
	request.Header = header.Clone()
	response, err := client.Do(request)
	if err != nil {
		return answer{}, causeOf(err)
	}
	defer response.Body.Close()
	got := answer{code: response.StatusCode, status: response.Status, date: response.Header.Get("Date"), session: response.Header.Get("Mcp-Session-Id")}
	got.media, _, _ = mime.ParseMediaType(response.Header.Get("Content-Type")) // without one, the answer is not of MCP
	if to, err := response.Location(); err == nil {
		got.location = (&url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}).String()
	}
	if got.media == mediaEvents {
		got.body, err = firstEvent(response.Body)
		return got, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	got.body = string(body)
	return got, err
}

// causeOf is an error without the method and the address.
func causeOf(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// firstEvent reads a stream until its first event that has data.
func firstEvent(stream io.Reader) (string, error) {
	lines := bufio.NewScanner(io.LimitReader(stream, maxBody))
	lines.Buffer(nil, maxBody)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data:"); ok && strings.TrimSpace(data) != "" {
			return data, nil
		}
	}
	return "", lines.Err()
}

// message is the text of the error in an answer.
func message(body string) string {
	var content struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(body), &content); err != nil || content.Error.Message == "" {
		return "its answer is not of MCP"
	}
	return content.Error.Message
}

// checkClientToken asks Vault for the client's token.
func (e *examination) checkClientToken(ctx context.Context) {
	if e.ClientToken == "" {
		return
	}
	const rotate = "give the client another token: vault write -f %s/rotate-client/NAME"
	answer, err := e.vault.Logical().WriteWithContext(ctx, e.Mount+"/lookup", map[string]any{"token": e.ClientToken})
	switch {
	case err != nil:
		e.wrong("see Vault's log; for a sealed token AWS KMS must answer", "Vault cannot say whether MCP_TOKEN is good: %s", connect.Reason(err))
	case answer == nil || answer.Data["active"] != true:
		e.wrong(fmt.Sprintf(rotate, e.Mount), "MCP_TOKEN is not a valid token: it is unknown, has ended or was revoked, or its client is disabled")
	default:
		e.ok("MCP_TOKEN is a token of the client %v", answer.Data["client"])
	}
}

// tryClientToken shows the client's token to the gateway.
func (e *examination) tryClientToken(ctx context.Context) bool {
	if e.ClientToken == "" {
		return false
	}
	const log = "the gateway's audit log has the reason, under the time of this run; a sealed token needs a block kms in the gateway's file, and AWS KMS"
	switch got, err := e.knock(ctx, e.ClientToken); {
	case err != nil:
		return e.wrong(startGateway, "the gateway does not answer a request with MCP_TOKEN: %v", err)
	case got.code == http.StatusForbidden:
		e.ok("the gateway accepts MCP_TOKEN")
		e.tryServers(ctx)
		return true
	default:
		return e.wrong(log, "the gateway does not accept MCP_TOKEN: it answers %s", got.status)
	}
}

// checkGatewayState looks at the gateway's own view: its login, and the data keys
// of sealed tokens.
func (e *examination) checkGatewayState(ctx context.Context) {
	if e.GatewayAdminURL == "" {
		if e.kms {
			e.ok("whether the gateway can open sealed tokens was not looked at: name its admin listener with -gateway-admin-url")
		}
		return
	}
	const log = "see the gateway's log"
	base := strings.TrimSuffix(e.GatewayAdminURL, "/")
	got, err := send(ctx, http.MethodGet, base+"/readyz", nil, "")
	switch {
	case err != nil:
		e.wrong("correct -gateway-admin-url: it is the address in the gateway's block admin", "no admin listener answers at %s: %v", base, err)
		return
	case got.code != http.StatusOK:
		e.wrong(log+"; its login is in its block vault", "the gateway is not ready: %s", strings.TrimSpace(got.body))
		return
	}
	e.ok("the gateway is logged in to Vault and ready")
	if !e.kms {
		return
	}
	got, err = send(ctx, http.MethodGet, base+"/metrics", nil, "")
	known, usable := metric(got.body, "mcp_gateway_kms_data_keys"), metric(got.body, "mcp_gateway_kms_data_keys_usable")
	age := time.Duration(metric(got.body, "mcp_gateway_kms_confirmed_age_seconds")) * time.Second
	switch {
	case err != nil:
		e.wrong(log, "the gateway's metrics cannot be read: %v", err)
	case known == 0:
		e.wrong("give its file a block kms, with the audience of "+e.Mount+"/config/kms", "the gateway has no data key, and opens no sealed token")
	case usable < known:
		e.wrong(log+"; look whether the KMS key is enabled, and whether the gateway's identity may use kms:Decrypt", "AWS KMS has unwrapped %v of %v data keys for the gateway: tokens sealed under the others are refused", usable, known)
	default:
		e.ok("the gateway can open sealed tokens; AWS KMS has confirmed every data key within %s", age.Round(time.Second))
	}
}

// metric is the value of a metric without labels, 0 where it is missing.
func metric(text, name string) float64 {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), name+" "); found {
			number, _ := strconv.ParseFloat(value, 64) // Prometheus wrote it
			return number
		}
	}
	return 0
}
