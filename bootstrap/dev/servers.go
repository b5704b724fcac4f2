package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/bootstrap/process"
)

// startCalculator runs the demo server that speaks HTTP, at a port that the
// kernel chooses. The one that speaks over standard input and output is started
// by the gateway when it is needed.
func (s *system) startCalculator(ctx context.Context) error {
	return s.startDemo(ctx, calculator, calculator, &s.calculatorURL)
}

// startDemo runs a demo server over HTTP under a name, and notes its URL.
func (s *system) startDemo(ctx context.Context, name, program string, address *string) error {
	server, err := s.group.Start(process.Spec{
		Name: "the demo server " + name,
		Path: s.Self,
		Args: []string{"demo", program, "-address=127.0.0.1:0"},
		Log:  s.log(name),
	})
	if err != nil {
		return err
	}
	return awaitListening(ctx, server, demo.Listening, address)
}

// awaitListening waits for the line in which a program says where it listens, behind these
// words, and notes the URL.
func awaitListening(ctx context.Context, server *process.Process, words string, address *string) error {
	return server.Await(ctx, startTimeout, func(context.Context) error {
		content, err := os.ReadFile(server.Log())
		if err != nil {
			return err
		}
		_, after, _ := strings.Cut(string(content), words)
		url, _, whole := strings.Cut(after, "\n")
		if !whole {
			return errors.New("it has not said where it listens")
		}
		*address = url
		return nil
	})
}

const gatewayFile = `# Written by mcp-bootstrap dev.
vault {
  address = %q
  mount   = %q
  auth "approle" {
    role_id_file   = %q
    secret_id_file = %q
  }
}
listener {
  address = %q%s
}
admin {
  address = %q
}
stdio {
  allowed_commands = [%s]
  isolation        = %q
}
audit {
  file = %q
}
` + upstreamBlock

// startGateway runs the gateway until it has logged in to Vault.
func (s *system) startGateway(ctx context.Context) error {
	config := fmt.Sprintf(gatewayFile, s.vaultURL(), mount, s.path(roleIDFile), s.path(secretIDFile),
		s.GatewayAddress, s.publicURL(), s.AdminAddress, s.commands(), s.isolation(), s.log("audit"))
	config += s.gatewaySignIn()
	var environment []string
	if s.KMS {
		config += kmsBlock
		environment = s.kmsEnvironment()
	}
	if err := s.write("gateway.hcl", config); err != nil {
		return err
	}
	gateway, err := s.group.Start(process.Spec{
		Name: "the gateway",
		Path: s.Gateway,
		Args: []string{"-config=" + s.path("gateway.hcl")},
		Env:  environment,
		Log:  s.log("gateway"),
	})
	if err != nil {
		return err
	}
	return gateway.Await(ctx, startTimeout, func(ctx context.Context) error { return ready(ctx, s.AdminAddress) })
}

// ready is nil once the gateway can do its work.
func ready(ctx context.Context, admin string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(io.LimitReader(response.Body, 500))
		return fmt.Errorf("/readyz answers %s: %s", response.Status, answer)
	}
	return nil
}
