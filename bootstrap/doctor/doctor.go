// Package doctor examines a running broker from its users' side, and gives a remedy for
// each finding. It changes nothing, and revokes the credentials that it takes to try them.
package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/console"
	"vault-plugin-secrets-mcp/gateway/config"
)

// Options are the places to examine.
type Options struct {
	// Mount is where the engine is mounted.
	Mount string
	// GatewayURL is where clients connect. Empty: no gateway is looked at.
	GatewayURL string
	// GatewayAdminURL is the gateway's admin listener. Empty: it is not looked at.
	GatewayAdminURL string
	// GatewayConfig is the gateway's file, where it is on this machine. Empty: it is
	// not looked at.
	GatewayConfig string
	// ClientToken is a client's token, to be tried at the gateway. Empty: none is.
	ClientToken string
	// Client is a client whose upstream credentials are tried. Empty: none are.
	Client string
	// TokenRole is the token role under which doctor mints for Client. Empty: that of the
	// gateway's file, or the one that apply makes.
	TokenRole string
	// Expiring is how soon a token must end to be worth telling.
	Expiring time.Duration
	// Out gets a line for each check.
	Out io.Writer
	// Format is the form of that: one of Formats.
	Format string
}

// Formats are the forms in which an examination is told.
func Formats() []string { return []string{"text", "json"} }

// Report is an examination for machines: docs/bootstrap.md has its fields.
type Report struct {
	Findings int     `json:"findings"`
	Checks   []Check `json:"checks"`
}

// Check is what one of the checks has found.
type Check struct {
	OK     bool   `json:"ok"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"` // unless it is ok
}

// Bounds of the examination.
const (
	askTimeout = 5 * time.Second
	maxSkew    = 5 * time.Second
)

// ErrFindings is returned where something is wrong, after all of it was told.
var ErrFindings = errors.New("something is wrong")

// examination is one run.
type examination struct {
	Options
	vault    *api.Client
	terminal console.Terminal
	findings int
	checks   []Check // for a Report

	gateway *config.Config // nil: it was not read
	kms     bool           // config/kms is there
	stdio   []string       // servers that are commands, and should start
	remote  []registered   // servers over HTTP
	leasing []string       // servers with upstream credentials

	tokenPolicies map[string][]string // vault_policies of those servers that have some
	blocked       bool                // managed policies admit no server, so that no client reaches any
}

// Run makes all checks and returns ErrFindings unless nothing is wrong.
func Run(ctx context.Context, vault *api.Client, opts Options) error {
	to := opts.Out
	opts.Mount = strings.Trim(opts.Mount, "/")
	if base, err := connect.GatewayURL(opts.GatewayURL); err == nil {
		opts.GatewayURL = base // of one that is none, checkGateway tells
	}
	forMachines := opts.Format == "json"
	if forMachines {
		opts.Out = io.Discard
	}
	e := &examination{Options: opts, vault: vault, terminal: console.Of(opts.Out), tokenPolicies: map[string][]string{}, checks: []Check{}}
	e.readGatewayConfig()
	if e.checkVault(ctx) && e.checkToken(ctx) && e.checkMount(ctx) {
		e.checkGatewayLogin(ctx)
		e.checkKMS(ctx)
		servers := e.checkServers(ctx)
		e.checkPolicies(ctx, servers)
		e.checkPins(ctx, servers)
		e.checkUpstream(ctx)
		e.checkSignIn(ctx)
		e.checkClients(ctx)
		e.checkClientToken(ctx)
		e.checkCredentials(ctx)
	}
	if e.checkGateway(ctx) && e.tryClientToken(ctx) {
		e.tryCommands(ctx)
	}
	e.checkSignInOutside(ctx)
	e.checkGatewayState(ctx)
	if forMachines {
		if err := e.report(to); err != nil {
			return err
		}
	}
	if e.findings > 0 {
		fmt.Fprintf(e.Out, "\nFindings: %d. The remedy for each is after its →.\n", e.findings)
		return ErrFindings
	}
	_, err := fmt.Fprintln(e.Out, "\nNothing is wrong.")
	return err
}

// report writes the examination as JSON.
func (e *examination) report(to io.Writer) error {
	out := json.NewEncoder(to)
	out.SetIndent("", " ")
	out.SetEscapeHTML(false)
	return out.Encode(Report{Findings: e.findings, Checks: e.checks})
}

// indent is as wide as the column before a message.
const indent = "      "

func (e *examination) ok(format string, args ...any) bool {
	text := fmt.Sprintf(format, args...)
	e.checks = append(e.checks, Check{OK: true, Text: text})
	fmt.Fprintln(e.Out, e.terminal.Paint(console.Green, "ok")+"    "+e.terminal.Wrap(indent, text))
	return true
}

// wrong reports a finding, with its remedy.
func (e *examination) wrong(todo, format string, args ...any) bool {
	text := fmt.Sprintf(format, args...)
	e.findings++
	e.checks = append(e.checks, Check{Text: text, Remedy: todo})
	fmt.Fprintln(e.Out, e.terminal.Paint(console.Red, "WRONG")+" "+e.terminal.Wrap(indent, text))
	fmt.Fprintln(e.Out, indent+"→ "+e.terminal.Wrap(indent+"  ", todo))
	return false
}

// ask reads a path of Vault; a nil answer is an empty one.
func (e *examination) ask(ctx context.Context, path string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	secret, err := e.vault.Logical().ReadWithContext(ctx, path)
	if err != nil || secret == nil {
		return nil, err
	}
	return secret.Data, nil
}

// names lists a path of the mount.
func (e *examination) names(ctx context.Context, path string) ([]string, error) {
	secret, err := e.vault.Logical().ListWithContext(ctx, e.Mount+"/"+path)
	if err != nil || secret == nil {
		return nil, err
	}
	keys, _ := secret.Data["keys"].([]any)
	list := make([]string, 0, len(keys))
	for _, key := range keys {
		list = append(list, fmt.Sprint(key))
	}
	return list, nil
}
