// Command mcp-gateway is a reverse proxy between MCP clients and MCP servers. It validates
// each client's token through Vault, lets the client reach its allowed servers, and
// records every decision.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/backend/version"
	"vault-plugin-secrets-mcp/gateway/commandline"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/telemetry"
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
	return program().Main(context.Background(), args, commandline.Streams{Stdout: stdout, Stderr: stderr})
}

func program() *commandline.Program {
	return &commandline.Program{
		Command: commandline.Command{
			Name:      "mcp-gateway",
			Summary:   "pass on the messages between MCP clients and MCP servers, as Vault's engine allows",
			Arguments: "-config FILE",
			About: "MCP_GATEWAY_LISTEN and the variables of Vault's own tools (VAULT_ADDR, VAULT_CACERT\n" +
				"and others) override the file. OpenTelemetry's OTEL_* variables send traces and\n" +
				"metrics to a collector.",
			Setup: setup,
		},
		Version: version.String,
		Environment: []commandline.Variable{
			{Name: "MCP_GATEWAY_LISTEN", Text: "Where clients connect: overrides the address of the block listener."},
			{Name: "VAULT_ADDR, VAULT_CACERT, VAULT_NAMESPACE", Text: "Vault, as for Vault's own tools. Their other variables have their usual meaning, too."},
			{Name: "OTEL_*", Text: "OpenTelemetry's variables, which send traces and metrics to a collector."},
		},
		See: []string{"mcp-bootstrap(1)"},
	}
}

// setup defines the flags. What they ask for is done by start.
func setup(set *commandline.Flags) commandline.Run {
	f := &flags{}
	levels := []string{"trace", "debug", "info", "warn", "error"}
	set.StringVar(&f.config, "config", "", "the configuration `file` (required)")
	set.BoolVar(&f.check, "check-config", false, "check the configuration, print its mistakes, and exit")
	set.BoolVar(&f.version, "version", false, "print the version, and exit")
	set.StringVar(&f.logLevel, "log-level", "", "trace, debug, info, warn or error; overrides the file's `level`")
	set.Files("config")
	set.Words("log-level", levels...)
	set.Check(func([]string) []string {
		var wrong []string
		if f.config == "" && !f.version {
			wrong = append(wrong, "give the configuration with -config FILE")
		}
		if f.logLevel != "" && hclog.LevelFromString(f.logLevel) == hclog.NoLevel {
			wrong = append(wrong, fmt.Sprintf("-log-level: %q is not one of %s", f.logLevel, strings.Join(levels, ", ")))
		}
		return wrong
	})
	return func(_ context.Context, _ []string, out commandline.Streams) error { return start(f, out) }
}

// start checks the configuration, or runs the gateway.
func start(f *flags, out commandline.Streams) error {
	if f.version {
		_, err := fmt.Fprintln(out.Stdout, version.String())
		return err
	}
	tuneMemory()
	settings, err := load(f)
	if err != nil {
		fmt.Fprintln(out.Stderr, err) // each of its mistakes has a line that begins with the file
		return commandline.ErrReported
	}
	if f.check {
		for _, warning := range settings.Warnings {
			fmt.Fprintf(out.Stderr, "%s: warning: %s\n", f.config, warning)
		}
		_, err := fmt.Fprintf(out.Stdout, "%s: ok\n", f.config)
		return err
	}
	log := newLogger(settings.Log, out.Stderr)
	if err := serve(f, settings, log); err != nil {
		log.Error("the gateway cannot run", "error", err)
		return commandline.ErrReported
	}
	return nil
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
	log.Info("starting", "version", version.Number())
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
