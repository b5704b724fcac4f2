package dev

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/mcp/stdio"
)

// tryTimeout is how long one's own servers are waited for. One that npx or uvx has to
// fetch first takes its time.
const tryTimeout = time.Minute

// isolation is the gateway's setting. On one machine with one user, who tries things
// out, servers run even where nothing keeps them apart.
func (s *system) isolation() string {
	if err := stdio.Isolation(); err != nil {
		s.ownNotes = append(s.ownNotes, "servers that are programs can read each other's environment here: "+err.Error())
		return config.IsolationOff
	}
	return config.IsolationRequired
}

// ownCommands are those of one's own servers that the gateway starts.
func (s *system) ownCommands() []string {
	var names []string
	for _, server := range s.own {
		if server.Command != "" {
			names = append(names, server.Name)
		}
	}
	return names
}

// tryCommands has the gateway start them, and notes which ones cannot be started. It
// continues with the others after a failure.
func (s *system) tryCommands(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	names := s.ownCommands()
	errs := make([]error, len(names))
	var trying sync.WaitGroup
	for i, name := range names {
		trying.Go(func() { errs[i] = connect.Try(ctx, s.gatewayURL(), name, s.clientToken) })
	}
	trying.Wait()
	for i, err := range errs {
		if err != nil {
			s.ownNotes = append(s.ownNotes, s.complaint(names[i], err))
		}
	}
	return nil
}

// complaint says why a server of one's own cannot be used.
func (s *system) complaint(name string, err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("your server %s has not answered within %s. It may still be downloading its packages; see %s", name, tryTimeout, shown(s.log("gateway")))
	}
	var refused *connect.TryError
	text := err.Error()
	if errors.As(err, &refused) {
		text = refused.Message
	}
	said := lastWords(s.log("gateway"), name)
	if said == "" {
		return fmt.Sprintf("your server %s cannot be started: %s See %s", name, text, shown(s.log("gateway")))
	}
	return fmt.Sprintf("your server %s cannot be started: %s It says:\n\n  %s\n", name, text, strings.ReplaceAll(said, "\n", "\n  "))
}

// lastWords returns the end of a server's standard error, or the reason why it has no
// process. Both are from the gateway's log, which has no secrets.
func lastWords(log, name string) string {
	file, err := os.Open(log)
	if err != nil {
		return ""
	}
	defer file.Close()
	said := ""
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Server string `json:"server"`
			Stderr string `json:"stderr"`
			State  string `json:"state"`
			Error  string `json:"error"`
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil || line.Server != name {
			continue
		}
		switch {
		case line.Stderr != "":
			said = line.Stderr
		case line.Error != "":
			said = line.Error
		case line.State != "":
			said = line.State
		}
	}
	return said
}
