// Command mcp-gateway is a reverse proxy between MCP clients and MCP servers. It validates
// each client's token through Vault, lets the client reach its allowed servers, and
// records every decision.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/telemetry"
)

// version is set at build time: -ldflags "-X main.version=v1.2.3".
var version = "v0.0.0-dev"

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// flags are the flags of the command line.
type flags struct {
	config   string
	check    bool
	version  bool
	logLevel string
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its environment as arguments. It returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	f, err := parseFlags(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		printUsage(stdout)
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "%v\nSee `mcp-gateway -help`.\n", err)
		return exitUsage
	case f.version:
		fmt.Fprintln(stdout, version)
		return exitOK
	}
	tuneMemory()
	settings, err := load(f)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	if f.check {
		for _, warning := range settings.Warnings {
			fmt.Fprintf(stderr, "%s: warning: %s\n", f.config, warning)
		}
		fmt.Fprintf(stdout, "%s: ok\n", f.config)
		return exitOK
	}
	log := newLogger(settings.Log, stderr)
	if err := serve(f, settings, log); err != nil {
		log.Error("the gateway cannot run", "error", err)
		return exitFailed
	}
	return exitOK
}

// flagSet binds the flags to f.
func flagSet(f *flags) *flag.FlagSet {
	set := flag.NewFlagSet("mcp-gateway", flag.ContinueOnError)
	set.SetOutput(io.Discard) // run prints the errors
	set.StringVar(&f.config, "config", "", "the configuration `file` (required)")
	set.BoolVar(&f.check, "check-config", false, "check the configuration, print its mistakes, and exit")
	set.BoolVar(&f.version, "version", false, "print the version, and exit")
	set.StringVar(&f.logLevel, "log-level", "", "trace, debug, info, warn or error; overrides the file's `level`")
	return set
}

func printUsage(to io.Writer) {
	fmt.Fprint(to, "Usage: mcp-gateway -config FILE [-check-config] [-log-level LEVEL]\n"+
		"       mcp-gateway help | version\n\n"+
		"MCP_GATEWAY_LISTEN and the variables of Vault's own tools (VAULT_ADDR, VAULT_CACERT\n"+
		"and others) override the file. OpenTelemetry's OTEL_* variables send traces and\n"+
		"metrics to a collector.\n\nFlags:\n")
	set := flagSet(&flags{})
	set.SetOutput(to)
	set.PrintDefaults()
}

// parseFlags reads the command line. The error has all mistakes.
func parseFlags(args []string) (*flags, error) {
	if len(args) == 1 { // as in the other programs
		switch args[0] {
		case "help":
			return nil, flag.ErrHelp
		case "version", "-v", "--v", "-V":
			return &flags{version: true}, nil
		}
	}
	f := &flags{}
	set := flagSet(f)
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, fmt.Errorf("mcp-gateway: %w", err)
	}
	if f.version {
		return f, nil
	}
	var wrong []error
	if set.NArg() > 0 {
		wrong = append(wrong, fmt.Errorf("mcp-gateway: unexpected argument %q", set.Arg(0)))
	}
	if f.config == "" {
		wrong = append(wrong, errors.New("mcp-gateway: give the configuration with -config FILE"))
	}
	if f.logLevel != "" && hclog.LevelFromString(f.logLevel) == hclog.NoLevel {
		wrong = append(wrong, fmt.Errorf("mcp-gateway: -log-level: %q is not one of trace, debug, info, warn, error", f.logLevel))
	}
	return f, errors.Join(wrong...)
}

// load reads the file; environment and flags override it.
func load(f *flags) (*config.Config, error) {
	settings, err := config.Load(f.config, os.Getenv)
	if err != nil {
		return nil, err
	}
	if f.logLevel != "" {
		settings.Log.Level = f.logLevel
	}
	if _, err := telemetry.Environment(os.Getenv); err != nil {
		return nil, err
	}
	if err := checkSignIn(settings); err != nil {
		return nil, err
	}
	return settings, nil
}

func newLogger(settings config.Log, output io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name:       "mcp-gateway",
		Level:      hclog.LevelFromString(settings.Level),
		JSONFormat: settings.Format == "json",
		Output:     output,
	})
}

// serve runs the gateway until a signal ends it.
func serve(f *flags, settings *config.Config, log hclog.Logger) error {
	log.Info("starting", "version", version)
	for _, warning := range settings.Warnings {
		log.Warn(warning)
	}
	if proxy := settings.Vault.ProxyName(); proxy != "" {
		log.Info("the gateway reaches Vault through a proxy", "proxy", proxy)
	}
	g, err := newGateway(settings, log)
	if err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	go func() {
		for {
			select {
			case <-hangups:
				g.reload(func() (*config.Config, error) { return load(f) })
			case <-ctx.Done():
				stop() // a second signal ends the process at once
				return
			}
		}
	}()
	return g.run(ctx)
}
